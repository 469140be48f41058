//! The command line of `dragoman inject`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use dragoman_kube::{Options, SETTINGS, Said, Setting};

/// Put dragoman into Kubernetes manifests
///
/// Reads YAML or JSON of any number of documents and adds dragoman to the pods of Pod, Deployment, StatefulSet, DaemonSet, Job,
/// CronJob, ReplicaSet, ReplicationController and PodTemplate, in lists too. All else passes through, and every byte that
/// was there stays: comments, order, indentation. To inject again replaces what was injected before; --uninject gives
/// the original back.
///
/// Manifests go to stdout, a line for each object to stderr. If anything is refused, nothing is written.
///
/// Annotations of a pod (`dragoman.dev/NAME`) win over the options of the same name; docs/inject.md lists them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "dragoman inject [-f FILE] [OPTIONS]")]
pub(crate) struct InjectArguments {
    /// The manifests; `-` is stdin
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Take dragoman out again, and give the original back byte for byte
    #[arg(long)]
    pub(crate) uninject: bool,
    /// Say nothing on stderr of what went well
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) given: Given,
}

const EXAMPLES: &str = "\
Examples:
  dragoman inject -f deployment.yaml | kubectl apply -f -
  kustomize build overlays/production | dragoman inject | kubectl apply -f -
  dragoman inject -f deployment.yaml --exclude-ports 5432,6379 --image registry.example/dragoman:1.2
  dragoman inject -f pod.yaml --native-sidecar=false --probes=none | podman kube play -
  dragoman inject -f injected.yaml --uninject

Exit code: 0 done, 1 a file cannot be read or written, 2 something is refused (a line for each reason).";

/// The one setting that the environment may say.
const IMAGE_VARIABLE: &str = "DRAGOMAN_IMAGE";

/// The settings that are on the command line or in the environment.
#[derive(Debug)]
pub(crate) struct Given {
    values: Vec<(&'static Setting, String)>,
    /// Those of the command line.
    flags: Vec<&'static str>,
}

impl Given {
    /// The options that these are.
    ///
    /// # Errors
    /// What is wrong, a line each.
    pub(crate) fn options(&self) -> Result<Options, Vec<String>> {
        let mut options = Options::default();
        let mut wrong = Vec::new();
        for (setting, value) in &self.values {
            if let Err(reason) = setting.set(&mut options, value) {
                let from_flag = self.flags.contains(&setting.name);
                let name = if from_flag { format!("--{}", setting.name) } else { IMAGE_VARIABLE.to_owned() };
                wrong.push(format!("{name} {value:?}: {reason}"));
            }
        }
        if wrong.is_empty() {
            for invalid in options.check().err().unwrap_or_default() {
                let name = if invalid.setting == "capture" { "no-capture" } else { invalid.setting };
                wrong.push(format!("--{name}: {}", invalid.reason));
            }
        }
        if wrong.is_empty() { Ok(options) } else { Err(wrong) }
    }

    /// The first setting of the command line.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        self.flags.first().copied()
    }
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.said != Said::Annotation)
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value =
            |setting: &'static Setting| Some((setting, matches.get_one::<String>(setting.name)?.clone()));
        let is_flag = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Given {
            values: settings().filter_map(value).collect(),
            flags: settings().map(|setting| setting.name).filter(is_flag).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        settings().fold(command, |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let help = format!("{} [default: {}]", setting.about, setting.default);
    let argument = Arg::new(setting.name).long(setting.name).value_name(setting.value).help(help);
    match setting.name {
        "image" => argument.env(IMAGE_VARIABLE),
        _ if setting.is_switch() => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        _ => argument,
    }
}
