//! Has the program built again when a migration is added: they are part of it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
