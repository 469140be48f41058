//! What is shipped, as those see it who have to answer for it: the bill of materials, and what the checks of an image refuse. That a
//! whole image is as it should be is shown by `make image`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dragoman_harness::binaries;
use dragoman_harness::process::{self, text};
use dragoman_harness::programs;
use dragoman_harness::scratch::Scratch;
use serde_json::Value;

/// A file of the project.
fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The bill of materials, and the file that it stands in.
fn bill(scratch: &Scratch) -> (Value, PathBuf) {
    let file = scratch.path().join("bill.json");
    process::succeed(Command::new(project("scripts/sbom")).arg("--output").arg(&file));
    let read = fs::read(&file).expect("it was written");
    (serde_json::from_slice(&read).expect("it is JSON"), file)
}

/// Names, with versions, of all that the bill has.
fn named(bill: &Value) -> BTreeSet<String> {
    let components = bill["components"].as_array().expect("components");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    components.iter().map(|it| format!("{}-{}", text(&it["name"]), text(&it["version"]))).collect()
}

#[test]
fn the_bill_of_materials_is_valid() {
    let scratch = Scratch::new("sbom");
    let (bill, file) = bill(&scratch);
    let validate = |file: &Path| {
        let mut command = Command::new(programs::python());
        process::output(command.arg(programs::path("validate_sbom.py")).arg(file))
    };
    let said = validate(&file);
    assert!(said.status.success(), "{}", text(&said));
    // The validator would find it, were it not.
    let mut broken = bill.clone();
    broken["components"][0]["type"] = "thing".into();
    let said = validate(&scratch.write("broken.json", broken.to_string()));
    assert!(!said.status.success() && text(&said).contains("thing"), "{}", text(&said));

    for component in bill["components"].as_array().expect("components") {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        let purl = component["purl"].as_str().expect("a purl");
        let of_crates_io = purl.starts_with("pkg:cargo/");
        let checksum = component["hashes"][0]["content"].as_str().map(str::len);
        assert_eq!(checksum, of_crates_io.then_some(64), "{component}");
    }
}

#[test]
fn the_bill_of_materials_names_what_is_linked_in_and_nothing_else() {
    let scratch = Scratch::new("sbom");
    let named = named(&bill(&scratch).0);
    let has = |name: &str| named.iter().any(|it| it.rsplit_once('-').is_some_and(|(found, _)| found == name));
    for linked in
        ["rustls", "aws-lc-sys", "aws-lc", "tokio", "lexopt", "dragoman-proxy", "dragoman-init", "rust-std"]
    {
        assert!(has(linked), "{linked} is linked in: {named:?}");
    }
    for other in
        ["proptest", "criterion", "cc", "syn", "serde_derive", "ring", "windows-sys", "dragoman-harness"]
    {
        assert!(!has(other), "{other} is not linked in: {named:?}");
    }

    // Programs name the files that a panic could come from, with the crate that they are of.
    for (program, least) in [(binaries::dragoman(), 40), (binaries::dragoman_init(), 2)] {
        let content = fs::read(&program).expect("a program");
        let content = String::from_utf8_lossy(&content);
        let crates: BTreeSet<&str> = content.split("/registry/src/").skip(1).filter_map(crate_of).collect();
        assert!(crates.len() >= least, "{} names {crates:?} alone", program.display());
        let missing: Vec<_> = crates.iter().filter(|it| !named.contains(**it)).collect();
        assert!(
            missing.is_empty(),
            "{} holds code of {missing:?}, which the bill does not name",
            program.display()
        );
    }
}

/// `tokio-1.2.3` of `index.crates.io-1949cf8c6b5b557f/tokio-1.2.3/src/lib.rs`.
fn crate_of(path: &str) -> Option<&str> {
    let mut parts = path.split(['/', '\0']);
    parts.next().filter(|registry| registry.starts_with("index.crates.io-"))?;
    parts.next().filter(|name| name.len() < 80)
}

#[test]
fn the_same_source_has_the_same_bill_of_materials() {
    let (one, other) = (Scratch::new("sbom"), Scratch::new("sbom"));
    assert_eq!(fs::read(bill(&one).1).expect("a file"), fs::read(bill(&other).1).expect("a file"));
}

/// The project's way to make an image, where the Dockerfile and the programs can be others.
struct Workshop {
    scratch: Scratch,
}

impl Workshop {
    fn new() -> Self {
        let scratch = Scratch::new("image");
        for folder in ["scripts", "binaries"] {
            fs::create_dir(scratch.path().join(folder)).expect("a new folder");
        }
        for file in
            ["Dockerfile", "Cargo.toml", "scripts/image", "scripts/check-image", "scripts/check-static"]
        {
            process::copy(&project(file), &scratch.path().join(file));
        }
        Self { scratch }
    }

    fn with_programs(self, content: &[u8]) -> Self {
        for name in ["dragoman", "dragoman-init"] {
            self.scratch.write(&format!("binaries/{name}"), content);
        }
        self
    }

    /// Builds in a store of the workshop's own, so that nothing stays on the machine.
    fn build(&self) -> Output {
        let path = |name: &str| self.scratch.path().join(name);
        let mut command = Command::new(path("scripts/image"));
        command
            .arg("--engine=podman")
            .arg("--binaries")
            .arg(path("binaries"))
            .arg("--store")
            .arg(path("store"));
        process::output(
            command
                .args(["--name", "localhost/case:1"])
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .env("GIT_DIR", "/nonexistent"),
        )
    }
}

/// A program of this machine, which needs shared libraries.
fn dynamic() -> Vec<u8> {
    fs::read("/bin/true").expect("a program")
}

#[test]
fn an_image_that_is_not_as_it_should_be_is_refused_with_all_that_is_wrong() {
    let workshop = Workshop::new().with_programs(&dynamic());
    let file = workshop.scratch.path().join("Dockerfile");
    let dockerfile = fs::read_to_string(&file).expect("the Dockerfile");
    let changed = dockerfile
        .replace("USER 1337:1337", "USER 0:0\nCOPY --from=build Dockerfile /etc/passwd")
        .replace("image.licenses=", "image.license=");
    assert_ne!(changed, dockerfile);
    fs::write(&file, changed).expect("the Dockerfile can be written");

    let out = workshop.build();
    let said = text(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for part in [
        "check-image: User should be 1337:1337, not 0:0",
        "should hold dragoman and dragoman-init alone; it holds dragoman, dragoman-init, etc/passwd",
        "the label org.opencontainers.image.licenses says nothing",
        "the label org.opencontainers.image.revision says nothing",
        "check-static: dragoman is not static",
    ] {
        assert!(said.contains(part), "'{part}' is not in\n{said}");
    }
}

#[test]
fn an_image_of_fifteen_mebibytes_is_refused() {
    let mut program = dynamic();
    program.resize(8 << 20, 0);
    let out = Workshop::new().with_programs(&program).build();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(
        text(&out).contains("the image has 16777216 bytes; it has to stay below 15728640"),
        "{}",
        text(&out)
    );
}

#[test]
fn the_same_programs_make_the_same_image() {
    let ids = [(); 2].map(|()| {
        let said = text(&Workshop::new().with_programs(&dynamic()).build());
        let lines = said.lines().filter(|line| line.starts_with("id ") || line.starts_with("digest "));
        let ids: Vec<_> = lines.map(str::to_owned).collect();
        assert_eq!(ids.len(), 2, "{said}");
        ids
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn an_image_without_programs_or_an_engine_is_refused_with_the_reason() {
    let out = Workshop::new().build();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(
        text(&out).contains("image: there is no ") && text(&out).contains("binaries/dragoman"),
        "{}",
        text(&out)
    );

    // A machine without any engine.
    let workshop = Workshop::new().with_programs(&dynamic());
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("PATH=/nonexistent")
        .arg("/usr/bin/python3")
        .arg(workshop.scratch.path().join("scripts/image"));
    let out = process::output(command.arg("--binaries").arg(workshop.scratch.path().join("binaries")));
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(
        text(&out).contains("nothing here builds images (apt-get install podman brings what does): docker: not installed; podman"),
        "{}",
        text(&out)
    );
}
