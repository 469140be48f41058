//! What dragoman does to a pod, seen by the pod's own containers: nothing, but for a prefix where the order of the start
//! cannot be had otherwise. And which rights each container really has.

use std::collections::BTreeMap;

use dragoman_harness::pods::{Node, Pod};
use serde_json::{Value, json};

use crate::{OBSERVE, app};

/// Two containers, of which one says its command and the other leaves it to its image.
const PODS: &str = "apiVersion: v1
kind: Pod
metadata:
  name: shop
spec:
  restartPolicy: Always
  containers:
    - name: spoken
      image: localhost/app:test
      imagePullPolicy: Never
      command: [sleep]
      args: ['500']
      env:
        - name: COLOUR
          value: 'red'
      volumeMounts:
        - name: shop-cache
          mountPath: /cache
    - name: silent
      image: localhost/app:test
      imagePullPolicy: Never
      env:
        - name: COLOUR
          value: 'blue'
      volumeMounts:
        - name: shop-cache
          mountPath: /cache
          readOnly: true
      securityContext:
        runAsUser: 1000
        capabilities:
          add: [NET_BIND_SERVICE]
  volumes:
    - name: shop-cache
      emptyDir: {}
";

/// What says how a container is made. The rest of `podman inspect` is its id and its state.
const MADE: [&str; 7] = ["Path", "Args", "ImageName", "Config", "Mounts", "EffectiveCaps", "BoundingCaps"];

#[test]
fn containers_are_made_as_without_dragoman_but_for_the_prefix_of_a_spoken_command() {
    let node = Node::new();
    let pod = node.play(&PODS.replace("Always", "Never"));
    let [spoken, silent] = ["spoken", "silent"].map(|container| made(&pod, container));
    node.ask(&["pod", "rm", "--force", "--time", "0", "shop"]);
    drop(pod);

    let pod = node.play(&node.inject(PODS, &[]));
    assert_eq!(made(&pod, "silent"), silent);

    let mut wrapped = made(&pod, "spoken");
    let prefix = ["/run/dragoman/dragoman", "wait", "--"];
    let whole: Vec<_> = prefix.iter().chain(&["sleep", "500"]).collect();
    assert_eq!(wrapped["Path"], whole[0].to_owned());
    assert_eq!(wrapped["Args"], json!(whole[1..]));
    let extra = |mount: &Value| mount["Destination"] == "/run/dragoman";
    let mounts = wrapped.get_mut("Mounts").and_then(Value::as_array_mut).expect("a list");
    let ours = mounts.iter().position(extra).expect("the program that waits");
    assert_eq!(mounts.remove(ours)["RW"], false);
    for (key, value) in &spoken {
        match key.as_str() {
            "Path" | "Args" => {}
            "Config" => {
                let told = ["Cmd", "Entrypoint", "CreateCommand"];
                assert_eq!(without(&wrapped[key], &told), without(value, &told));
            }
            _ => assert_eq!(&wrapped[key], value, "{key}"),
        }
    }
}

#[test]
fn each_container_has_the_rights_that_it_needs_and_no_more() {
    let node = Node::new();
    let pod = node.play(&node.inject(&app(OBSERVE, "Always", "exec sleep 600"), &[]));
    pod.ready();
    for (container, id) in [("dragoman", 1337), ("app", 1000)] {
        let status = status(&pod, container);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[set], 16), Ok(0), "{container} {set}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{container}");
        assert_eq!(status["Seccomp"], "2", "{container} is not filtered");
        let ids = vec![id.to_string(); 4];
        for key in ["Uid", "Gid"] {
            assert_eq!(status[key].split_whitespace().collect::<Vec<_>>(), ids, "{container} {key}");
        }
    }
    let mounts = pod.proc("dragoman", "mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
    assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");

    let bundles = node.bundles();
    let runs = |bundle: &&Value| bundle["process"]["args"][0] == "/dragoman-init";
    let init = bundles.iter().find(runs).expect("dragoman-init ran");
    let process = &init["process"];
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(process["capabilities"][set], json!(["CAP_NET_ADMIN"]), "{set}");
    }
    for set in ["inheritable", "ambient"] {
        assert!(process["capabilities"][set].as_array().is_none_or(Vec::is_empty), "{process:#}");
    }
    assert_eq!((&process["user"]["uid"], &process["user"]["gid"]), (&json!(0), &json!(0)));
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(init["root"]["readonly"], true);
    assert!(init["linux"]["seccomp"].is_object(), "no seccomp");
}

/// How a container is made.
fn made(pod: &Pod<'_>, container: &str) -> BTreeMap<String, Value> {
    let mut inspected = pod.inspect(container);
    let mut made: BTreeMap<_, _> =
        MADE.iter().map(|key| ((*key).to_owned(), inspected[*key].take())).collect();
    // podman writes the pod's labels and the time here, and the environment in any order.
    let mut config = without(&made["Config"], &["Annotations", "Labels"]);
    let environment = config["Env"].as_array_mut().expect("a list");
    environment.sort_by_key(ToString::to_string);
    made.insert("Config".to_owned(), config);
    made
}

fn without(value: &Value, keys: &[&str]) -> Value {
    let mut value = value.clone();
    let map = value.as_object_mut().expect("a map");
    keys.iter().for_each(|key| {
        map.remove(*key);
    });
    value
}

/// What the kernel says about the first process of a container.
fn status(pod: &Pod<'_>, container: &str) -> BTreeMap<String, String> {
    let text = pod.proc(container, "status");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}
