//! The price of a restore, in words.

use super::out::{count, size};
use crate::holdings::restore::{ClassPrice, RestoreTerms};

/// Returns what a restore is about, how long it takes and what it costs.
pub(super) fn in_words(price: &ClassPrice, terms: RestoreTerms) -> String {
    let ClassPrice { class, bundles, captures, bytes, restore, copy, time } = price;
    let what = match (*bundles, *captures) {
        (bundles, 0) => count(bundles, "bundle"),
        (0, captures) => count(captures, "capture"),
        (bundles, captures) => format!("{} and {}", count(bundles, "bundle"), count(captures, "capture")),
    };
    format!(
        "{what}, {}, out of {class}: {time}; {} for the restore and {} for the copy that can be read for {} \
         (AWS list prices, us-east-1, October 2025)",
        size(*bytes),
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
    fn money_has_as_many_digits_as_say_something() {
        assert_eq!([0.0, 0.001, 1.234].map(money), ["nothing", "less than $0.01", "$1.23"]);
    }
}
