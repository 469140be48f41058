//! Where traces go, from the configuration to the exporter.

use std::io;

use dragoman_config::Trace;
use dragoman_telemetry::Telemetry;

/// Has traces exported to `trace.endpoint`, if there is one, by connections with this mark.
///
/// # Errors
/// The exporter cannot be started.
#[cfg(feature = "otlp")]
pub(crate) fn start(trace: &Trace, mark: Option<u32>, telemetry: &Telemetry) -> io::Result<()> {
    use dragoman_telemetry::{Receiver, Tracer};

    let Some(endpoint) = &trace.endpoint else { return Ok(()) };
    let receiver = Receiver {
        host: endpoint.host.clone(),
        port: endpoint.port,
        path: endpoint.path.clone(),
        headers: trace.headers.clone(),
        service_name: trace.service_name.clone(),
        mark,
    };
    telemetry.trace_to(Tracer::start(receiver)?);
    Ok(())
}

/// Refuses `trace.endpoint`, since this program was built without the exporter.
///
/// # Errors
/// There is one.
#[cfg(not(feature = "otlp"))]
pub(crate) fn start(trace: &Trace, _: Option<u32>, _: &Telemetry) -> io::Result<()> {
    match &trace.endpoint {
        None => Ok(()),
        Some(_) => Err(io::Error::other("built without the feature `otlp`; leave trace.endpoint out")),
    }
}
