//! Links the static program without the tables for unwinding that the standard library and C bring along (-0.55 MB):
//! a panic says its words and aborts. Whoever would read the tables aborts without a word, so the program asks for no
//! backtrace (`sys::want_no_backtrace`).

fn main() {
    println!("cargo::rerun-if-changed=no-unwinding.ld");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
    }
}
