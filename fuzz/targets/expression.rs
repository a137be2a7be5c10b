//! Any text as an expression, a condition and a template; what is well-formed has a value.
#![no_main]

use workflow::expression::{Expression, ExpressionError, Scope, Status, Template, Value};

struct Everything;

impl Scope for Everything {
    fn context(&self, name: &str) -> Value {
        let disks = Value::List(vec![Value::Text("sda".into()), Value::Number(2.0), Value::Null]);
        let inner = Value::Map([("result".to_owned(), Value::Text("success".into()))].into_iter().collect());
        Value::Map([(name.to_owned(), inner), ("disks".to_owned(), disks)].into_iter().collect())
    }

    fn status(&self, status: Status) -> bool {
        status == Status::Always
    }
}

fn check(text: &str, error: &ExpressionError) {
    assert!(error.offset <= text.len() && !error.message.is_empty(), "{error:?}");
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for parsed in [Expression::parse(text), Expression::condition(text)] {
        match parsed {
            Ok(expression) => {
                let _ = expression.evaluate(&Everything).is_true();
                assert!(expression.names().iter().all(|name| name.offset + name.length <= text.len()));
            }
            Err(error) => check(text, &error),
        }
    }
    match Template::parse(text) {
        Ok(template) => drop(template.evaluate(&Everything)),
        Err(error) => check(text, &error),
    }
});
