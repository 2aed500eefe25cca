//! The box's key in its file: where it is looked for, what goes before it, and what is wrong with it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tokio::process::Command;

use super::{Site, run};
use crate::support::s3::{ACCESS_KEY, SECRET_KEY};

fn write_key(site: &Site, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = site.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

fn key(profile: &str, access_key: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = {SECRET_KEY}\n")
}

/// A command that has no key but that of the file.
fn without_key(site: &Site, arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("HK_AWS_CREDENTIALS", site.path("credentials"));
    command
}

#[tokio::test]
async fn every_command_signs_with_the_key_in_the_file() {
    let site = Site::start().await;
    site.s3.insert("CAM/2022-02-24/20220224T050607_a.jpg", "a");
    write_key(&site, "credentials", &key("default", ACCESS_KEY), 0o640);
    for line in [&["cameras"][..], &["list", "CAM"], &["rotate"], &["verify"], &["doctor"]] {
        let said = run(&mut without_key(&site, line)).await;
        assert!(!said.err.contains("credentials"), "{line:?}: {said:?}");
        assert!(said.code == 0 || line == ["doctor"], "{line:?}: {said:?}");
    }
    let said = run(&mut without_key(&site, &["check"])).await;
    let place = format!("signed with the key from {}\n", site.path("credentials").display());
    assert!(said.code == 0 && said.out.ends_with(&place) && said.err.is_empty(), "{said:?}");
    // systemd decrypts one for the service.
    std::fs::rename(site.path("credentials"), site.path("hk-aws.credentials")).unwrap();
    let mut command = without_key(&site, &["cameras"]);
    command.env_remove("HK_AWS_CREDENTIALS").env("CREDENTIALS_DIRECTORY", site.folder.path());
    let said = run(&mut command).await;
    assert_eq!((said.code, said.out.as_str()), (0, "CAM\n"), "{said:?}");
}

#[tokio::test]
async fn what_the_caller_brings_goes_before_the_file() {
    let site = Site::start().await;
    site.s3.insert("CAM/2022-02-24/20220224T050607_a.jpg", "a");
    write_key(&site, "credentials", &key("default", "AKIAIOSFODNN7STRANGE"), 0o640);
    let said = run(&mut without_key(&site, &["cameras"])).await;
    assert!(said.code == 1 && said.err.contains("renew the AWS key in "), "{said:?}");
    let with_environment = run(site.command(&["cameras"]).env("HK_AWS_CREDENTIALS", site.path("credentials"))).await;
    assert_eq!((with_environment.code, with_environment.out.as_str()), (0, "CAM\n"), "{with_environment:?}");
    let own = write_key(&site, "home/credentials", &key("default", ACCESS_KEY), 0o600);
    let said = run(without_key(&site, &["cameras"]).env("AWS_SHARED_CREDENTIALS_FILE", &own)).await;
    assert_eq!((said.code, said.out.as_str()), (0, "CAM\n"), "{said:?}");
    // A profile that only the file has is taken from there.
    write_key(
        &site,
        "credentials",
        &format!("{}{}", key("default", "AKIAIOSFODNN7STRANGE"), key("box", ACCESS_KEY)),
        0o640,
    );
    let said = run(without_key(&site, &["cameras"]).env("AWS_PROFILE", "box")).await;
    assert_eq!((said.code, said.out.as_str()), (0, "CAM\n"), "{said:?}");
}

#[tokio::test]
async fn a_file_without_a_key_is_an_error_with_its_line_and_one_that_all_may_read_is_told() {
    let site = Site::start().await;
    let file = write_key(&site, "credentials", &format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}\n"), 0o640);
    for line in [&["cameras"][..], &["check"], &["rotate"]] {
        let said = run(&mut without_key(&site, line)).await;
        let part = format!("{}:1: AWS_ACCESS_KEY_ID stands in no profile", file.display());
        assert!(said.code == 1 && said.err.contains(&part), "{line:?}: {said:?}");
        assert!(said.err.contains("write the line [default] above it"), "{said:?}");
    }
    write_key(&site, "credentials", &key("default", ACCESS_KEY), 0o644);
    for line in [&["cameras"][..], &["check"]] {
        let said = run(&mut without_key(&site, line)).await;
        assert!(said.code == 0 && said.err.contains(&format!("chmod 640 {}", file.display())), "{line:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_key_whose_halves_do_not_fit_is_said_with_the_place_where_both_are() {
    let site = Site::start().await;
    let text = |secret: &str| key("default", ACCESS_KEY).replace(SECRET_KEY, secret);
    let own = write_key(&site, "credentials", &text("wrong"), 0o640);
    let shared = write_key(&site, "home/credentials", &text("wrong"), 0o600);
    let shown = |file: &PathBuf| file.display().to_string();
    for (variables, place) in [
        (vec![], shown(&own)),
        (vec![("AWS_SHARED_CREDENTIALS_FILE", shown(&shared))], format!("the AWS files ({})", shown(&shared))),
        (
            vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", "wrong".to_owned())],
            "the environment".to_owned(),
        ),
    ] {
        let said = run(without_key(&site, &["cameras"]).envs(variables)).await;
        let mend = format!("both are in {place}: correct one of them");
        assert!(said.code == 1 && said.err.contains("does not fit the access key"), "{said:?}");
        assert!(said.err.contains(&mend) && !said.err.contains("wrong\n"), "{mend}: {said:?}");
    }
}
