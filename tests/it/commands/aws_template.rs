//! `aws-template`, which needs neither a bucket nor credentials.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Said, hk_aws, run};

const TRANSITION: &str = "rotate: {transition: {after: 30d, min_size: 20KiB}, expire: {after: 365d}}";
const LOCKED: &str = ", object_lock: {mode: compliance, days: 90}, tags: true, sse: {kms_key_id: 1a2b-3c}";

/// Runs the command with more keys in the `s3` section (`, key: value`) and more sections.
async fn template(s3_keys: &str, sections: &str, arguments: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    let config =
        format!("drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3_keys}}}\n{sections}\n");
    std::fs::write(&file, config).unwrap();
    let arguments = [&["aws-template", "--config", file.to_str().unwrap()], arguments].concat();
    run(hk_aws(&arguments).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY")).await
}

async fn of_format(format: &str, s3_keys: &str, sections: &str) -> String {
    let said = template(s3_keys, sections, &["--format", format]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.out
}

async fn of_format_and_bucket(format: &str, bucket: &str, s3_keys: &str) -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    let s3 = format!("drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: {bucket}{s3_keys}}}\n");
    std::fs::write(&file, s3).unwrap();
    let said = run(&mut hk_aws(&["aws-template", "--format", format, "--config", file.to_str().unwrap()])).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.out
}

async fn policy(s3_keys: &str, sections: &str) -> Value {
    serde_json::from_str(&of_format("policy", s3_keys, sections).await).unwrap()
}

async fn resources(s3_keys: &str, sections: &str) -> Value {
    let text = of_format("cloudformation", s3_keys, sections).await;
    let mut template: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(template["AWSTemplateFormatVersion"], "2010-09-09");
    assert_eq!(template["Outputs"], Value::Null, "a key in an output would be there for others to read");
    assert!(!text.contains("AWS::IAM::AccessKey"), "{text}");
    template["Resources"].take()
}

/// Every action that is allowed, in order.
fn actions(policy: &Value) -> Vec<&str> {
    let statements = policy["Statement"].as_array().unwrap().iter();
    let allowed = statements.flat_map(|statement| {
        assert_eq!(statement["Effect"], "Allow");
        statement["Action"].as_array().unwrap()
    });
    allowed.map(|action| action.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_box_that_only_writes_may_put_below_its_prefix_and_nothing_else() {
    let said = policy(", access: write-only, prefix: site-1", "").await;
    let put = json!({"Sid": "Captures", "Effect": "Allow", "Action": ["s3:PutObject"],
        "Resource": ["arn:aws:s3:::captures/site-1/*"]});
    assert_eq!(said, json!({"Version": "2012-10-17", "Statement": [put]}));
    // The parts of a large file are decrypted when they are put together.
    let said = policy(&format!(", access: write-only{LOCKED}"), "").await;
    let all = ["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention", "kms:GenerateDataKey", "kms:Decrypt"];
    assert_eq!(actions(&said), all);
    assert_eq!(said["Statement"][1]["Resource"], json!(["arn:aws:kms:*:*:key/1a2b-3c"]));
    assert_eq!(said["Statement"][1]["Condition"]["StringLike"]["kms:ViaService"], "s3.*");
}

#[tokio::test]
async fn a_box_that_rotates_may_read_list_and_delete_but_erase_no_version_and_lift_no_lock() {
    let said = policy("", "rotate: {archive: {class: GLACIER_IR}}").await;
    let mut all = vec![
        "s3:PutObject",
        "s3:GetObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
    ];
    assert_eq!(actions(&said), all);
    assert_eq!(said["Statement"][0]["Resource"], json!(["arn:aws:s3:::captures/*"]));
    assert_eq!(said["Statement"][1]["Resource"], json!(["arn:aws:s3:::captures"]));
    let said = policy(LOCKED, "rotate: {archive: {class: GLACIER}}").await;
    all.extend(["s3:PutObjectTagging", "s3:GetObjectTagging", "s3:PutObjectRetention", "s3:GetObjectRetention"]);
    all.extend(["s3:GetObjectLegalHold", "s3:RestoreObject", "kms:GenerateDataKey", "kms:Decrypt"]);
    all.sort_unstable();
    let mut found = actions(&said);
    found.sort_unstable();
    assert_eq!(found, all);
}

#[tokio::test]
async fn the_bucket_is_closed_to_the_public_and_to_plain_http_and_outlives_its_stack() {
    for s3 in ["", ", access: write-only", LOCKED] {
        let resources = resources(s3, "rotate: {expire: null}").await;
        let (bucket, denied) = (&resources["Bucket"], &resources["BucketPolicy"]["Properties"]["PolicyDocument"]);
        assert_eq!((&bucket["Type"], &bucket["DeletionPolicy"]), (&"AWS::S3::Bucket".into(), &"Retain".into()));
        let properties = &bucket["Properties"];
        assert_eq!(properties["BucketName"], "captures");
        let blocks = properties["PublicAccessBlockConfiguration"].as_object().unwrap();
        assert!(blocks.len() == 4 && blocks.values().all(|block| block == true), "{blocks:?}");
        assert_eq!(properties["OwnershipControls"]["Rules"][0]["ObjectOwnership"], "BucketOwnerEnforced");
        let denied = &denied["Statement"][0];
        assert_eq!((&denied["Effect"], &denied["Principal"]), (&"Deny".into(), &"*".into()));
        assert_eq!(denied["Condition"], json!({"Bool": {"aws:SecureTransport": "false"}}));
        assert_eq!(denied["Resource"], json!(["arn:aws:s3:::captures", "arn:aws:s3:::captures/*"]));
        let of_user = &resources["User"]["Properties"]["Policies"][0]["PolicyDocument"];
        assert_eq!(*of_user, policy(s3, "rotate: {expire: null}").await, "one policy, whoever applies it");
    }
}

#[tokio::test]
async fn lock_and_encryption_are_the_buckets_defaults_too() {
    let plain = resources("", "").await["Bucket"]["Properties"].take();
    let default = "ServerSideEncryptionByDefault";
    let encryption = |of: &Value| of["BucketEncryption"]["ServerSideEncryptionConfiguration"][0].clone();
    assert_eq!(encryption(&plain), json!({default: {"SSEAlgorithm": "AES256"}}));
    assert_eq!((&plain["ObjectLockConfiguration"], &plain["ObjectLockEnabled"]), (&Value::Null, &Value::Null));
    let locked = resources(LOCKED, "").await["Bucket"]["Properties"].take();
    let kms = json!({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "1a2b-3c"});
    assert_eq!(encryption(&locked), json!({"BucketKeyEnabled": true, default: kms}));
    assert_eq!(locked["ObjectLockEnabled"], true);
    let retention = &locked["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
    assert_eq!(*retention, json!({"Mode": "COMPLIANCE", "Days": 90}));
}

#[tokio::test]
async fn every_bucket_keeps_what_was_deleted_for_as_long_as_undo_says() {
    for (s3, days) in [("", 30), (", access: write-only", 30), (LOCKED, 30), (", undo: 14d, prefix: site-1", 14)] {
        let sections = "rotate: {expire: null}";
        let bucket = resources(s3, sections).await["Bucket"]["Properties"].take();
        assert_eq!(bucket["VersioningConfiguration"], json!({"Status": "Enabled"}));
        let [abort, old, ..] = bucket["LifecycleConfiguration"]["Rules"].as_array().unwrap().as_slice() else {
            panic!("{bucket}")
        };
        assert_eq!(abort["AbortIncompleteMultipartUpload"], json!({"DaysAfterInitiation": 7}));
        assert_eq!(old["NoncurrentVersionExpiration"], json!({"NoncurrentDays": days}));
        assert_eq!((&old["ExpiredObjectDeleteMarker"], &old["Status"]), (&true.into(), &"Enabled".into()));
        assert_eq!(old["Prefix"], if s3.contains("prefix") { json!("site-1/") } else { Value::Null });
        let text = of_format("terraform", s3, sections).await;
        for part in [
            "  versioning_configuration {\n    status = \"Enabled\"\n",
            &format!("noncurrent_version_expiration {{\n      noncurrent_days = {days}\n"),
            "expiration {\n      expired_object_delete_marker = true\n",
            "abort_incomplete_multipart_upload {\n      days_after_initiation = 7\n",
            "  depends_on = [aws_s3_bucket_versioning.captures]\n",
            &format!("{days} days (s3.undo)"),
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test]
async fn the_boxs_user_can_overwrite_nothing_and_has_no_right_on_versions_rules_policies_and_locks() {
    for s3 in ["", ", access: write-only", LOCKED, ", account: 111122223333, region: cn-north-1"] {
        let account = if s3.contains("account") { "111122223333" } else { "*" };
        let partition = if s3.contains("cn-north") { "aws-cn" } else { "aws" };
        let sections = "rotate: {expire: null}";
        let user = format!("arn:{partition}:iam::{account}:user/captures");
        let denied = json!({
            "Sid": "NoOverwrite",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject"],
            "Resource": [format!("arn:{partition}:s3:::captures/*")],
            "Condition": {
                "ArnLike": {"aws:PrincipalArn": user},
                "Bool": {"s3:ObjectCreationOperation": "true"},
                "Null": {"s3:if-none-match": "true"},
            },
        });
        let resources = resources(s3, sections).await;
        assert_eq!(resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"][1], denied);
        assert_eq!(resources["User"]["Properties"]["UserName"], "captures", "whom the condition names");
        let text = of_format("terraform", s3, sections).await;
        let in_terraform = text.split("<<-JSON\n").nth(1).unwrap().split("\n  JSON\n").next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(in_terraform).unwrap()["Statement"][1], denied);
        assert!(text.contains("resource \"aws_iam_user\" \"captures\" {\n  name = \"captures\"\n"), "{text}");
        for action in actions(&policy(s3, sections).await) {
            let sets = action.starts_with("s3:Put") || action.starts_with("s3:Delete") || action.contains("Bypass");
            let may = ["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention", "s3:DeleteObject"];
            assert!(!sets || may.contains(&action), "{action}");
            assert!(!action.contains("ObjectVersion") && !action.contains('*'), "{action}");
        }
    }
}

#[tokio::test]
async fn a_name_that_no_stranger_can_take_is_proposed() {
    let long = "a-name-as-long-as-those-of-s3-may-be-which-is-63-characters-long";
    let cases = [
        ("captures", "", "captures-ACCOUNT-REGION-an", "ACCOUNT"),
        (
            "captures",
            ", region: eu-central-1, account: 111122223333",
            "captures-111122223333-eu-central-1-an",
            "111122223333",
        ),
        (&long[..63], ", region: eu-central-1", "a-name-as-long-as-those-of-s3-ma-ACCOUNT-eu-central-1-an", "ACCOUNT"),
    ];
    for format in ["cloudformation", "terraform"] {
        for (bucket, s3, name, account) in cases {
            let text = of_format_and_bucket(format, bucket, s3).await;
            let proposed = format!("#   s3: {{bucket: {name}, account: \"{account}\"}}\n");
            assert!(text.contains(&proposed) && text.contains("a stranger can take its name"), "{proposed}: {text}");
            assert!(!text.contains("account-regional"), "{text}");
        }
        for region in ["eu-central-1", "us-gov-west-1"] {
            let name = format!("captures-111122223333-{region}-an");
            let text = of_format_and_bucket(format, &name, &format!(", region: {region}")).await;
            let spelled = if format == "terraform" {
                "  bucket_namespace = \"account-regional\"\n"
            } else {
                "BucketNamespace: account-regional\n"
            };
            assert!(text.contains(spelled) && !text.contains("stranger"), "{text}");
            assert_eq!(text.contains(">= 6.37"), format == "terraform", "{text}");
        }
        let text = of_format_and_bucket(format, "sultan-an", "").await;
        assert!(!text.contains("account-regional") && text.contains("stranger"), "{text}");
    }
}

#[tokio::test]
async fn what_watches_the_heartbeat_is_made_with_it_and_needs_no_right_of_the_box() {
    let sections = "heartbeat: {every: 5m, name: porch}\nalerts: {email: owner@example.org}\n\
                    cameras: [{name: CAM-1, silent_after: 2h}, {name: CAM-2}]";
    let s3 = ", prefix: site-1, region: eu-central-1";
    let resources_of = resources(s3, sections).await;
    let bucket = &resources_of["Bucket"];
    assert_eq!(bucket["DependsOn"], "TopicPolicy", "S3 tries the topics when the bucket is made");
    let topics = bucket["Properties"]["NotificationConfiguration"]["TopicConfigurations"].as_array().unwrap();
    let told: Vec<_> = topics
        .iter()
        .map(|topic| {
            assert_eq!(topic["Event"], "s3:ObjectCreated:*");
            let rule = &topic["Filter"]["S3Key"]["Rules"][0];
            assert_eq!(rule["Name"], "prefix");
            (topic["Topic"]["Ref"].as_str().unwrap(), rule["Value"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [("HeartbeatTopic", "site-1/heartbeat/porch/"), ("Camera1Topic", "site-1/CAM-1/2")]);
    for (name, statement) in ["Heartbeat", "Camera1"].iter().zip(0..) {
        let may = &resources_of["TopicPolicy"]["Properties"]["PolicyDocument"]["Statement"][statement];
        assert_eq!(may["Principal"], json!({"Service": "s3.amazonaws.com"}));
        assert_eq!((&may["Action"], &may["Resource"]["Ref"]), (&"sns:Publish".into(), &format!("{name}Topic").into()));
        assert_eq!(may["Condition"]["ArnLike"]["aws:SourceArn"], "arn:aws:s3:::captures");
        assert_eq!(may["Condition"]["StringEquals"]["aws:SourceAccount"]["Ref"], "AWS::AccountId");
        let alarm = &resources_of[format!("{name}Alarm")]["Properties"];
        let figures = (&alarm["Period"], &alarm["EvaluationPeriods"], &alarm["Threshold"]);
        let periods = if *name == "Heartbeat" { json!(3) } else { json!(24) };
        assert_eq!(figures, (&json!(300), &periods, &json!(1)));
        assert_eq!(alarm["TreatMissingData"], "breaching");
        assert_eq!(alarm["ComparisonOperator"], "LessThanThreshold");
        assert_eq!(
            (&alarm["Namespace"], &alarm["MetricName"]),
            (&"AWS/SNS".into(), &"NumberOfMessagesPublished".into())
        );
        for actions in ["AlarmActions", "OKActions"] {
            assert_eq!(alarm[actions], json!([{"Ref": "AlarmTopic"}]));
        }
    }
    let owner = &resources_of["AlarmTopic"]["Properties"]["Subscription"][0];
    assert_eq!(*owner, json!({"Protocol": "email", "Endpoint": "owner@example.org"}));
    let rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"].as_array().unwrap();
    let heartbeats =
        json!({"Id": "heartbeats", "Status": "Enabled", "Prefix": "site-1/heartbeat/", "ExpirationInDays": 30});
    assert_eq!(*rules.last().unwrap(), heartbeats);
    assert_eq!(policy(s3, sections).await, policy(s3, "").await, "the box needs no other right");
    let text = of_format("terraform", s3, sections).await;
    for part in [
        "filter_prefix = \"site-1/heartbeat/porch/\"\n",
        "  endpoint  = \"owner@example.org\"\n",
        "resource \"aws_cloudwatch_metric_alarm\" \"heartbeat\" {",
        "  period              = 300\n  evaluation_periods  = 3\n",
        "  treat_missing_data = \"breaching\"\n",
        "\"aws:SourceArn\" = \"arn:aws:s3:::captures\"",
        "  depends_on = [aws_sns_topic_policy.heartbeat, aws_sns_topic_policy.camera1]\n",
        "hk-aws heartbeat --test",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let without = of_format("cloudformation", s3, "").await;
    assert!(!without.contains("SNS") && !without.contains("DependsOn"), "{without}");
    let nobody = of_format("cloudformation", s3, "heartbeat: {}").await;
    assert!(
        nobody.contains("# Nobody is told yet: set alerts.email") && nobody.contains("set heartbeat.name"),
        "{nobody}"
    );
}

#[tokio::test]
async fn no_rule_of_the_bucket_deletes_by_age_what_the_box_rotates() {
    for sections in ["", TRANSITION, "rotate: {archive: null, expire: {after: 1d}}"] {
        let moves = sections == TRANSITION;
        for s3 in [", prefix: site-1", LOCKED] {
            let text = of_format("cloudformation", s3, sections).await;
            assert!(text.contains("# Add none: after a theft"), "{text}");
            for word in ["ExpirationInDays", "ExpirationDate"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
            assert_eq!(text.contains("Transition"), moves, "{text}");
            let text = of_format("terraform", s3, sections).await;
            assert!(text.contains("# Add none: after a theft"), "{text}");
            assert!(!text.contains("expiration {\n      days") && text.contains("transition {") == moves, "{text}");
        }
        let bucket = resources(", prefix: site-1", sections).await["Bucket"].take();
        let abort = json!({"Id": "abandoned-uploads", "Status": "Enabled", "Prefix": "site-1/",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}});
        let old = json!({"Id": "old-versions", "Status": "Enabled", "Prefix": "site-1/",
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30}, "ExpiredObjectDeleteMarker": true});
        // The bucket's policy denies the box to change a class in place, so S3 does it.
        let moved = json!({"Id": "transition", "Status": "Enabled", "Prefix": "site-1/", "ObjectSizeGreaterThan": "20479",
            "Transitions": [{"StorageClass": "GLACIER_IR", "TransitionInDays": 30}]});
        let rules = if moves { vec![abort, old, moved] } else { vec![abort, old] };
        assert_eq!(bucket["Properties"]["LifecycleConfiguration"]["Rules"], json!(rules));
    }
}

#[tokio::test]
async fn what_a_box_that_only_writes_cannot_do_is_done_by_the_bucket() {
    let only = ", access: write-only, prefix: site-1";
    let bucket = resources(only, TRANSITION).await["Bucket"].take();
    let rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["Prefix"] == "site-1/" && rule["Status"] == "Enabled"), "{rules:?}");
    assert_eq!(rules[2]["Transitions"], json!([{"StorageClass": "GLACIER_IR", "TransitionInDays": 30}]));
    assert_eq!(rules[2]["ObjectSizeGreaterThan"], "20479");
    assert_eq!(rules[3]["ExpirationInDays"], 365);
    let text = of_format("terraform", only, TRANSITION).await;
    for part in ["object_size_greater_than = 20479", "days          = 30", "expiration {\n      days = 365\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn captures_that_wait_for_a_bundle_that_nobody_makes_are_not_left_to_expire() {
    for format in ["cloudformation", "terraform"] {
        let said = template(", access: write-only", "rotate: {expire: {}}", &["--format", format]).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        let mends = ["rotate.archive: null", "rotate.expire: null", "s3.access: read-write", "rotate.transition"];
        for part in ["config.yaml: rotate.expire", "rotate.archive", "write-only", "burglary"].iter().chain(&mends) {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
    }
    for mended in ["rotate: {archive: null, expire: {}}", "rotate: {expire: null}", TRANSITION] {
        let said = template(", access: write-only", mended, &[]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    }
    let said = template(", access: write-only", "rotate: {transition: {after: 7d, class: STANDARD_IA}}", &[]).await;
    assert!(said.code == 2 && said.err.contains("rotate.transition.after") && said.err.contains("30d"), "{said:?}");
}

#[tokio::test]
async fn terraform_gets_each_resource_once_and_no_text_is_taken_for_a_template() {
    let s3 = format!(", region: eu-central-1, prefix: '${{DOLLAR}}{{a}}%{{b}}\"'{LOCKED}");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, format!("drop_folder: {{path: /drop}}\ntimezone: UTC\ns3: {{bucket: captures{s3}}}\n"))
        .unwrap();
    let line = ["aws-template", "--format", "terraform", "--config", file.to_str().unwrap()];
    let said = run(hk_aws(&line).env("DOLLAR", "$")).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let text = said.out;
    let kinds = ["", "_public_access_block", "_ownership_controls", "_server_side_encryption_configuration"];
    let more = ["_versioning", "_object_lock_configuration", "_lifecycle_configuration", "_policy"];
    let buckets = kinds.iter().chain(&more).map(|kind| format!("aws_s3_bucket{kind}"));
    let all: Vec<String> = buckets.chain(["aws_iam_user".into(), "aws_iam_user_policy".into()]).collect();
    for kind in &all {
        assert_eq!(text.matches(&format!("\nresource \"{kind}\" \"captures\" {{\n")).count(), 1, "{kind}: {text}");
    }
    assert_eq!(text.matches("\nresource ").count(), all.len(), "{text}");
    let prefix = r#"$${a}%%{b}\"/"#;
    assert!(text.contains(&format!("    prefix = \"{prefix}\"\n")), "{text}");
    let documents: Vec<Value> = text
        .split("<<-JSON\n")
        .skip(1)
        .map(|rest| {
            let document = rest.split("\n  JSON\n").next().unwrap();
            // As Terraform reads them.
            serde_json::from_str(&document.replace("$${", "${").replace("%%{", "%{")).unwrap()
        })
        .collect();
    assert_eq!(documents[1]["Statement"][0]["Resource"], json!(["arn:aws:s3:::captures/${$}{a}%{b}\"/*"]));
    assert_eq!(documents[0]["Statement"][0]["Effect"], "Deny");
    let outside: String = text.split("<<-JSON\n").map(|part| part.split("\n  JSON\n").last().unwrap()).collect();
    let braces = |of: char| {
        outside.lines().filter(|line| !line.contains(prefix)).flat_map(str::chars).filter(|c| *c == of).count()
    };
    assert!(braces('{') > 20 && braces('{') == braces('}'), "{text}");
}

#[tokio::test]
async fn json_is_one_document_and_another_store_is_remarked() {
    let said = template("", "", &["--json"]).await;
    let object: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(object["format"], "cloudformation");
    assert_eq!(object["template"].as_str().unwrap(), of_format("cloudformation", "", "").await);
    let said = template("", "", &["--json", "--format", "policy"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap(), policy("", "").await);
    let said = template(", endpoint_url: 'http://127.0.0.1:1'", "", &[]).await;
    assert!(said.code == 0 && said.err.contains("s3.endpoint_url") && said.err.contains("for AWS"), "{said:?}");
    let said = template(", endpoint_url: 'https://s3.eu-central-1.amazonaws.com'", "", &[]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}
