//! The layout of `src`: no import goes in a circle, and the crate's map has a line for each room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn, ItemMod, ItemUse, UseTree};

/// Paths of imports, as segments; those of a room's own parts (`use part::Name`) are not among them.
#[derive(Default)]
struct Imports(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.see(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&segments);
        visit::visit_path(self, path);
    }
}

impl Imports {
    fn of(file: &Path) -> Self {
        let mut imports = Self::default();
        imports.visit_file(&syn::parse_file(&std::fs::read_to_string(file).unwrap()).unwrap());
        imports
    }

    fn see(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.see(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.see(item, before)),
            UseTree::Name(name) => self.take(&[&before[..], &[name.ident.to_string()]].concat()),
            UseTree::Rename(rename) => self.take(&[&before[..], &[rename.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.take(before),
        }
    }

    fn take(&mut self, segments: &[String]) {
        if segments.len() > 1 && ["crate", "super"].contains(&segments[0].as_str()) {
            self.0.push(segments.to_vec());
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files of `src` by the segments of their module, except the root and what only tests use.
fn files() -> BTreeMap<Vec<String>, PathBuf> {
    fn collect(folder: &Path, module: &[String], files: &mut BTreeMap<Vec<String>, PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let below = [module, std::slice::from_ref(&name)].concat();
            if name == "tests" || module.is_empty() && (name == "lib" || name == "main") {
                continue;
            }
            if path.is_dir() {
                collect(&path, &below, files);
            } else {
                files.insert(below, path);
            }
        }
    }
    let mut all = BTreeMap::new();
    collect(&source(), &[], &mut all);
    all
}

/// The module that an import leads to from `here`: as much of its path as is a file.
fn target<'a>(
    files: &'a BTreeMap<Vec<String>, PathBuf>,
    here: &[String],
    import: &[String],
) -> Option<&'a Vec<String>> {
    let ups = import.iter().take_while(|segment| *segment == "super").count();
    let path = match ups {
        0 => import[1..].to_vec(),
        ups => [&here[..here.len().checked_sub(ups)?], &import[ups..]].concat(),
    };
    (1..=path.len()).rev().find_map(|length| files.get_key_value(&path[..length]).map(|(module, _)| module))
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// A circle in a graph, from a node back to it, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn walk<'a>(graph: &'a Graph, at: &'a str, trail: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) -> bool {
        if let Some(begin) = trail.iter().position(|node| *node == at) {
            trail.drain(..begin);
            trail.push(at);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        trail.push(at);
        if graph.get(at).into_iter().flatten().any(|next| walk(graph, next, trail, done)) {
            return true;
        }
        trail.pop();
        done.insert(at);
        false
    }
    let (mut trail, mut done) = (Vec::new(), BTreeSet::new());
    let found = graph.keys().any(|node| walk(graph, node, &mut trail, &mut done));
    found.then(|| trail.into_iter().map(str::to_owned).collect())
}

/// Who imports whom, by `name` of a module.
fn graph(name: impl Fn(&[String]) -> String) -> Graph {
    let files = files();
    let mut graph = Graph::new();
    for (here, file) in &files {
        for import in Imports::of(file).0 {
            let Some(there) = target(&files, here, &import) else { continue };
            let (from, to) = (name(here), name(there));
            if from != to {
                graph.entry(from).or_default().insert(to);
            }
        }
    }
    graph
}

#[test]
fn no_import_between_rooms_goes_in_a_circle() {
    let rooms = graph(|module| module[0].clone());
    assert!(rooms.len() > 20 && rooms["ingest"].contains("bucket"), "{rooms:?}");
    assert_eq!(circle(&rooms), None);
}

#[test]
fn no_import_between_files_goes_in_a_circle() {
    let files = graph(|module| module.join("/"));
    assert!(files.len() > 80 && files["bucket/body"].contains("bucket/stall"), "{files:?}");
    assert_eq!(circle(&files), None);
}

#[test]
fn a_circle_is_found_and_named() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])), None);
    let found = circle(&graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")])).unwrap();
    assert_eq!(found, ["b", "c", "d", "b"]);
}

#[test]
fn the_map_of_the_crate_has_a_line_for_each_room_and_no_other() {
    let text = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let map = text.split("//! # Map\n").nth(1).expect("lib.rs has a map").split("\npub mod ").next().unwrap();
    let line = Regex::new(r"(?m)^//! \* ((?:\[`[a-z_]+`\](?:, )?)+): \S").unwrap();
    let name = Regex::new("`([a-z_]+)`").unwrap();
    let mut mapped = Vec::new();
    for rooms in line.captures_iter(map) {
        mapped.extend(name.captures_iter(rooms.get(1).unwrap().as_str()).map(|room| room[1].to_owned()));
    }
    let rooms: BTreeSet<String> = files().keys().map(|module| module[0].clone()).collect();
    assert_eq!(mapped.iter().cloned().collect::<BTreeSet<_>>(), rooms);
    assert_eq!(mapped.len(), rooms.len(), "each room has one line");
}
