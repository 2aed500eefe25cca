//! Links within the project.

use std::collections::BTreeSet;
use std::path::Path;

use super::document::{Document, root};

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let mut checked = 0;
    for document in Document::all() {
        for link in document.links() {
            if link.starts_with("https://") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&document.path).parent().unwrap();
            let target = if file.is_empty() { document.path.clone().into() } else { folder.join(file) };
            assert!(root().join(&target).is_file(), "{} links to {link}, which is not there", document.path);
            if !fragment.is_empty() {
                let headings = Document::read(target.to_str().unwrap()).fragments();
                assert!(headings.contains(fragment), "{} links to {link}, but there are {headings:?}", document.path);
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn every_installed_document_is_linked_and_links_only_to_its_neighbours() {
    let documents = Document::all();
    let is_installed = |document: &&Document| document.path.starts_with("packaging/doc/");
    let mut linked = BTreeSet::new();
    for document in documents.iter().filter(|document| is_installed(document) || document.path == "README.md") {
        for link in document.links().iter().filter(|link| !link.starts_with("https://")) {
            let file = link.split('#').next().unwrap();
            assert!(!is_installed(&document) || !file.contains('/'), "{}: {link} is not installed", document.path);
            let own = Path::new(&document.path).file_name().unwrap().to_str().unwrap();
            let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(own);
            linked.extend((name != own).then(|| name.to_owned()));
        }
    }
    for document in documents.iter().filter(is_installed) {
        let name = Path::new(&document.path).file_name().unwrap().to_str().unwrap();
        assert!(linked.contains(name), "no document links to {name}");
    }
}

#[test]
fn a_heading_is_spelled_as_github_does() {
    let text = "# A camera's name\n## `x.y`, or not\n```sh\n# no heading\n```\n## A camera's name\n".to_owned();
    let document = Document { path: "x.md".to_owned(), text };
    assert!(document.fragments().into_iter().eq(["a-cameras-name", "a-cameras-name-1", "xy-or-not"]));
}
