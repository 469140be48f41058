//! What the platform asks for, and an app for itself by annotations of its pods.

use dragoman_capture as capture;

use crate::quantity::Quantity;
use crate::settings::SETTINGS;

/// How dragoman is put into pods. [`crate::SETTINGS`] has each of these by the name of its option and annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The image of all containers that are added.
    pub image: String,
    /// When it is pulled, if that is said.
    pub image_pull_policy: Option<String>,
    /// A native sidecar, an init container with `restartPolicy: Always`, or a plain one among the app's containers.
    pub native_sidecar: bool,
    /// In the plain form: explicit commands of the app wait until the proxy is ready.
    pub wrap: bool,
    /// In the plain form, of a pod that ends: the app itself ends the proxy, by POST to `/quitquitquit`.
    pub app_quits: bool,
    /// The sidecar has probes.
    pub probes: bool,
    /// Outbound connections are captured; else the sidecar serves the plain listeners of the policy alone.
    pub capture: bool,
    /// The platform's ConfigMap, which need not exist.
    pub config_map: Option<String>,
    /// The app's ConfigMap, which must exist.
    pub app_config_map: Option<String>,
    /// What `dragoman-init` does.
    pub rules: capture::Options,
    /// What the sidecar asks of its node.
    pub resources: Resources,
    /// Pods get the annotations by which many Prometheus servers find what to scrape, where they have none.
    pub scrape_annotations: bool,
}

/// Amounts for the sidecar, where they are said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// A share of a CPU to count on.
    pub cpu_request: Option<String>,
    /// The most CPU.
    pub cpu_limit: Option<Limit>,
    /// Memory to count on.
    pub memory_request: Option<String>,
    /// The most memory.
    pub memory_limit: Option<Limit>,
}

/// The most of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    None,
    /// This amount.
    Of(String),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            image: format!("dragoman:{}", env!("CARGO_PKG_VERSION")),
            image_pull_policy: None,
            native_sidecar: true,
            wrap: true,
            app_quits: false,
            probes: true,
            capture: true,
            config_map: Some("dragoman-platform".to_owned()),
            app_config_map: None,
            rules: capture::Options::default(),
            resources: Resources::default(),
            scrape_annotations: false,
        }
    }
}

/// A value that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting by whose name it came.
    pub setting: &'static str,
    /// What is wrong with it and what to do.
    pub reason: String,
}

impl Options {
    /// Refuses what contradicts itself or could never have an effect.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if let Err(invalid) = self.rules.check() {
            let reason = format!("dragoman-init would refuse it: {invalid}");
            wrong.push(Invalid { setting: setting_of(invalid.option), reason });
        }
        if !self.capture && self.rules != capture::Options::default() {
            let reason =
                "nothing is captured, so what says what to capture has no effect; take one of them out";
            wrong.push(Invalid { setting: "capture", reason: reason.to_owned() });
        }
        if !self.probes && self.native_sidecar {
            let reason = "a native sidecar needs its startup probe: the app starts when it has succeeded; \
                          leave the probes, or take native-sidecar=false";
            wrong.push(Invalid { setting: "probes", reason: reason.to_owned() });
        }
        let of = &self.resources;
        for (setting, request, limit) in [
            ("cpu-request", &of.cpu_request, &of.cpu_limit),
            ("memory-request", &of.memory_request, &of.memory_limit),
        ] {
            if let (Some(request), Some(Limit::Of(limit))) = (request, limit)
                && Quantity::parse(request) > Quantity::parse(limit)
            {
                let reason = format!("{request} is more than its limit, {limit}");
                wrong.push(Invalid { setting, reason });
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The setting for an option of dragoman-init.
fn setting_of(option: &str) -> &'static str {
    let settings = SETTINGS.iter().map(|setting| setting.name);
    settings.filter(|name| name.starts_with(option)).min_by_key(|name| name.len()).unwrap_or("capture")
}
