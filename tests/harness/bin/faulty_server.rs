//! A server that halts in the middle of its answer: `faulty-server CONTROL ADDRESS SPEAKS STAGE`.

use std::path::Path;

use dragoman_harness::faulty;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [control, address, speaks, stage] = &arguments[..] else {
        return Err("arguments: CONTROL ADDRESS SPEAKS STAGE".into());
    };
    Ok(faulty::run(Path::new(control), address.parse()?, speaks.parse()?, stage.parse()?)?)
}
