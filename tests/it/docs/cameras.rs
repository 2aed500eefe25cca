//! The example paths of the cameras' document are read as it says.

use std::path::Path;

use hk_aws::capture::{CameraFrom, TakenFrom, sight};
use hk_aws::config::Config;

use super::document::Document;
use super::{spans, table};

#[test]
fn every_example_path_of_the_makes_is_read_as_its_row_says() {
    let config = Config::parse(
        Path::new("cameras.yaml"),
        "drop_folder: {path: /drop}\ns3: {bucket: captures}\ntimezone: UTC\n",
        &|_| None,
    );
    let config = config.unwrap();
    let document = Document::read("packaging/doc/cameras.md");
    let makes =
        table(&document, "cameras of").into_iter().map(|row| (row[0].clone(), Some(row[1].clone()), row[3].clone()));
    let others = table(&document, "make or program").into_iter().map(|row| (row[0].clone(), None, row[2].clone()));
    for (make, vendor, path) in makes.chain(others) {
        let path = spans(&path).next().unwrap_or_else(|| panic!("{make} has no example")).to_owned();
        let sighting = sight(Path::new(&path), &config);
        assert_eq!(sighting.camera_from, CameraFrom::Folder, "{path}");
        let read = sighting.reading.vendor;
        // Amcrest sells Dahua's cameras.
        let expected = vendor.as_deref().map(|vendor| vendor.trim_matches('`').replace("amcrest", "dahua"));
        if let Some(expected) = expected {
            assert_eq!(read, Some(&*expected), "{path}");
        }
        let is_inside = make == "Mobotix" || make == "trail cameras";
        let stamp = sighting.reading.stamp;
        assert_eq!(stamp.is_none(), is_inside, "{path}");
        if let Some(stamp) = stamp {
            // Wyze names its clips by the minute.
            let taken = if make.starts_with("Wyze") { "2024-01-02T03:04:00" } else { "2024-01-02T03:04:05" };
            assert_eq!(stamp.wall.format("%FT%T").to_string(), taken, "{path}");
            assert!(matches!(stamp.from, TakenFrom::Name | TakenFrom::Folder), "{path}");
        }
    }
}
