//! What `aws-template` prints, read by the tools that know what AWS and Terraform take.

use std::path::Path;
use std::process::Command;

use hk_aws::aws_template::{TemplateFormat, render};
use hk_aws::config::Config;
use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon};
use crate::server::installed;
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

const CONFIGS: [&str; 5] = [
    "s3: {bucket: captures}",
    "s3: {bucket: captures, prefix: a, region: eu-central-1}\nheartbeat: {}",
    "s3: {bucket: captures-111122223333-eu-central-1-an, region: eu-central-1, access: write-only, object_lock: {}}\n\
     heartbeat: {every: 1h, name: porch}\nalerts: {email: owner@example.org}\nrotate: {archive: null, expire: {}}\n\
     cameras: [{name: 'Back \"${YARD}\"', silent_after: 2h}, {name: B, silent_after: 9d}]",
    "s3: {bucket: a.b.c, sse: aws:kms}\nheartbeat: {name: 'a \"b\" %{c}'}\nrotate: {transition: {}}",
    "s3: {bucket: captures, tags: true}\nheartbeat: {every: 1d}\nalerts: {email: owner@example.org}",
];

fn template(config: &str, format: TemplateFormat, to: &Path) {
    let text = format!("drop_folder: {{path: /drop}}\ntimezone: UTC\n{config}\n");
    // A name out of the environment has what is a template to Terraform.
    let env = |name: &str| (name == "YARD").then(|| "${yard} %{x}".to_owned());
    let config = Config::parse(Path::new("config.yaml"), &text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    std::fs::write(to, render(&config, format).unwrap()).unwrap();
}

#[test]
fn the_template_for_cloudformation_is_what_aws_takes() {
    let linter = installed("cfn-lint", "pip install cfn-lint");
    let folder = TempDir::with_prefix("hk-aws-template-").unwrap();
    let mut files = Vec::new();
    for (number, config) in CONFIGS.iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        template(config, TemplateFormat::Cloudformation, &file);
        files.push(file);
    }
    // The namespace of bucket names is newer than the linter may be.
    let output = Command::new(linter).args(["--ignore-checks", "E3002", "--"]).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_template_for_terraform_is_hcl() {
    let python = installed("python3", "apt-get install python3");
    let folder = TempDir::with_prefix("hk-aws-template-").unwrap();
    for (number, config) in CONFIGS.iter().enumerate() {
        let file = folder.path().join(format!("{number}.tf"));
        template(config, TemplateFormat::Terraform, &file);
        let script = "import hcl2, sys; print(sorted(k for b in hcl2.load(open(sys.argv[1]))['resource'] for k in b))";
        let output = Command::new(&python).args(["-c", script]).arg(&file).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{config}: {said}; pip install python-hcl2");
        assert_eq!(said.contains("aws_cloudwatch_metric_alarm"), config.contains("heartbeat"), "{config}: {said}");
    }
}

/// Runs a script with the server's address as `at` and a client maker of boto3 as `client`.
fn python(store: &Store, script: &str) -> String {
    let python = installed("python3", "apt-get install python3");
    let preamble = "import boto3, json, sys\nat, bucket = sys.argv[1:3]\n\
                    client = lambda name: boto3.client(name, endpoint_url=at, region_name='us-east-1')\n";
    let output = Command::new(python)
        .args(["-c", &format!("{preamble}{script}"), &store.endpoint(), BUCKET])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}; pip install boto3", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// moto counts no metrics; what it passes on to a subscriber of the topic is what would be counted.
#[test]
fn moto_tells_the_topic_of_each_heartbeat_and_of_nothing_else() {
    let store = Store::start(Kind::Moto);
    python(
        &store,
        "topic = client('sns').create_topic(Name='heartbeat')['TopicArn']
queue = client('sqs').create_queue(QueueName='counted')['QueueUrl']
arn = client('sqs').get_queue_attributes(QueueUrl=queue, AttributeNames=['QueueArn'])['Attributes']['QueueArn']
client('sns').subscribe(TopicArn=topic, Protocol='sqs', Endpoint=arn)
rule = {'Key': {'FilterRules': [{'Name': 'prefix', 'Value': 'home/heartbeat/porch/'}]}}
told = {'TopicArn': topic, 'Events': ['s3:ObjectCreated:*'], 'Filter': rule}
client('s3').put_bucket_notification_configuration(
    Bucket=bucket, NotificationConfiguration={'TopicConfigurations': [told]})",
    );
    let folder = TempDir::with_prefix("hk-aws-heartbeat-").unwrap();
    let below = folder.path().display();
    std::fs::create_dir(folder.path().join("drop")).unwrap();
    for name in ["porch", "cellar", "porch"] {
        let config = format!(
            "drop_folder: {{path: {below}/drop}}\nstate_dir: {below}/state\nruntime_dir: {below}/run\ntimezone: UTC\n\
             s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{}', path_style: true, prefix: home}}\n\
             heartbeat: {{name: {name}}}\n",
            store.endpoint()
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(folder.path().join("config.yaml")).args(["heartbeat", "--test"]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(&format!("home/heartbeat/{name}/")), "{said}{output:?}");
    }
    let told = python(
        &store,
        "queue = client('sqs').get_queue_url(QueueName='counted')['QueueUrl']
for message in client('sqs').receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get('Messages', []):
    body = json.loads(json.loads(message['Body'])['Message'])
    for record in body.get('Records', []):
        print(record['s3']['object']['key'])",
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.lines().all(|key| key.contains("porch")), "{told}");
}
