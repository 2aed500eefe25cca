//! A year of twelve cameras by a moved clock, a rotation a night: whether every capture comes back, and what it costs.

use anyhow::ensure;

use super::year::Year;

/// What the estimates may be off, in percent.
const MOST_OFF: f64 = 5.0;

/// Lives through it twice, without and with an end to keeping, and prints. `HK_AWS_BENCH_DAYS` sets how many days the
/// first one has, `HK_AWS_BENCH_CAPTURES` how many captures a day of each camera.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let read = |name, default| std::env::var(name).map_or(Ok(default), |value| value.parse::<u32>());
    let (days, captures) = (read("HK_AWS_BENCH_DAYS", 365)?, read("HK_AWS_BENCH_CAPTURES", 300)?);
    for year in [
        Year { cameras: 12, captures, days, class: "GLACIER_IR", expire: 0, fetch_one_of: 30 },
        Year { cameras: 4, captures: 100, days: 260, class: "GLACIER", expire: 200, fetch_one_of: 30 },
    ] {
        let Year { cameras, captures, days, class, expire, .. } = year;
        let expire = if expire == 0 { "never".to_owned() } else { format!("after {expire} days") };
        println!(
            "\nyear: {cameras} cameras, {captures} captures of some 250 bytes a day, {days} days, bundled in {class}, deleted \
             {expire}"
        );
        let folder = tempfile::tempdir()?;
        let bill = year.live(folder.path()).await?;
        println!("{bill}");
        ensure!(bill.off().iter().all(|off| off.abs() < MOST_OFF), "the plans are more than {MOST_OFF} % off");
    }
    Ok(())
}
