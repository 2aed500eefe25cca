//! The price of a restore, in words.

use super::out::{count, size};
use crate::holdings::restore::{ClassPrice, RestoreTerms};

/// Returns what a restore is about, and at AWS how long it takes and what it costs.
pub(super) fn in_words(price: &ClassPrice, terms: RestoreTerms, is_aws: bool) -> String {
    let ClassPrice { class, bundles, captures, bytes, restore, copy, time } = price;
    let what = match (*bundles, *captures) {
        (bundles, 0) => count(bundles, "bundle"),
        (0, captures) => count(captures, "capture"),
        (bundles, captures) => format!("{} and {}", count(bundles, "bundle"), count(captures, "capture")),
    };
    let what = format!("{what}, {}, out of {class}", size(*bytes));
    if !is_aws {
        return what;
    }
    format!(
        "{what}: {time}; {} for the restore and {} for the copy that can be read for {} \
         (AWS list prices, us-east-1, October 2025)",
        money(*restore),
        money(*copy),
        count(terms.days as usize, "day"),
    )
}

/// Returns dollars, with as many digits as say something.
fn money(dollars: f64) -> String {
    if dollars <= 0.0 {
        "nothing".to_owned()
    } else if dollars < 0.01 {
        "less than $0.01".to_owned()
    } else {
        format!("${dollars:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_and_hours_are_those_of_aws_alone() {
        let price = ClassPrice {
            class: "GLACIER".to_owned(),
            bundles: 1,
            captures: 0,
            bytes: 1 << 30,
            restore: 0.01,
            copy: 0.005,
            time: "3 to 5 hours",
        };
        let terms = RestoreTerms { tier: crate::bucket::Tier::Standard, days: 7 };
        assert_eq!(
            in_words(&price, terms, true),
            "1 bundle, 1.00 GiB, out of GLACIER: 3 to 5 hours; $0.01 for the restore and less than $0.01 for the copy that \
             can be read for 7 days (AWS list prices, us-east-1, October 2025)"
        );
        assert_eq!(in_words(&price, terms, false), "1 bundle, 1.00 GiB, out of GLACIER");
    }

    #[test]
    fn money_has_as_many_digits_as_say_something() {
        assert_eq!([0.0, 0.001, 1.234].map(money), ["nothing", "less than $0.01", "$1.23"]);
    }
}
