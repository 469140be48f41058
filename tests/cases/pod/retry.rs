use dragoman_harness::Origin;
use dragoman_harness::net::server_in_both_families;
use dragoman_harness::origin::Reply;
use dragoman_harness::pods::{APP, DRAGOMAN, Node};

#[test]
fn thin() {
    let node = Node::new();
    let origins = server_in_both_families(80).map(|address| {
        Origin::http(node.servers(), address, |_, n| match n {
            0 | 1 => Reply::status(503, "busy"),
            _ => Reply::status(200, "sold"),
        })
    });
    let pod = node.play(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: platform}}
data:
  dragoman.toml: |
    log.access = "all"
    [defaults]
    retry = {{}}
---
apiVersion: v1
kind: Pod
metadata: {{name: shop, labels: {{app: shop}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: dragoman-init
    image: {DRAGOMAN}
    imagePullPolicy: Never
    command: [/dragoman-init, install]
    securityContext: {{runAsUser: 0, runAsGroup: 0, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL], add: [NET_ADMIN]}}}}
  containers:
  - name: dragoman
    image: {DRAGOMAN}
    imagePullPolicy: Never
    args: [proxy, --config, /etc/dragoman/platform/dragoman.toml]
    securityContext: {{runAsUser: 1337, runAsGroup: 1337, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
    volumeMounts:
    - {{name: dragoman-run, mountPath: /run/dragoman}}
    - {{name: dragoman-platform, mountPath: /etc/dragoman/platform}}
  - name: app
    image: {APP}
    imagePullPolicy: Never
    command: [/bin/sh, -c, "while ! wget -q -O- http://127.0.0.1:15020/ready; do sleep 0.1; done; curl -s http://198.18.0.2/; curl -s http://[fd98::2]/"]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
  volumes:
  - {{name: dragoman-run, emptyDir: {{}}}}
  - {{name: dragoman-platform, configMap: {{name: platform}}}}
"#
    ));
    assert_eq!(pod.end("app"), 0, "{}", pod.log("app"));
    assert!(pod.output("app").ends_with("soldsold"), "{}", pod.log("app"));
    for origin in &origins {
        assert_eq!(origin.requests().len(), 3);
    }
    let records = pod.records_where(2, |record| record["status"] == 200);
    println!("{records:#?} {:?}", pod.addresses());
}
