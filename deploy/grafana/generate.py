#!/usr/bin/env python3
"""Writes the Grafana dashboard, the page that lists its panels and the alerts, and the alerts for the Prometheus operator.

    deploy/grafana/generate.py           write dragoman.json, docs/monitoring.md and the PrometheusRule of deploy/kubernetes
    deploy/grafana/generate.py --check   fail if one is not what would be written

A dashboard as JSON is a thousand lines of which fifty say something; those fifty are here. A test finds each
metric and label of the queries on the page of a running dragoman (tests/cases/telemetry).
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DASHBOARD = HERE / "dragoman.json"
ALERTS = HERE.parent / "prometheus" / "alerts.yml"
RULE = HERE.parent / "kubernetes" / "components" / "alerts" / "prometheus-rule.yaml"
PAGE = HERE.parent.parent / "docs" / "monitoring.md"

WIDTH, HEIGHT, COLUMNS = 8, 7, 3


def rate(metric: str, by: str = "", match: str = "") -> str:
    """The rate of a counter, summed over what is not named."""
    return f"sum by ({by}) (rate({metric}{{{selected(match)}}}[$__rate_interval]))"


def level(metric: str, by: str = "", match: str = "", over: str = "sum") -> str:
    """A gauge, summed over what is not named."""
    return f"{over} by ({by}) ({metric}{{{selected(match)}}})"


def quantile(share: float, metric: str, by: str = "destination") -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', f'le, {by}')})"


def selected(match: str) -> str:
    return ", ".join(filter(None, ['job=~"$job"', 'instance=~"$instance"', match]))


def times(metric: str, by: str = "destination") -> list:
    """The middle and the tail of a histogram."""
    names = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [(quantile(share, metric, by), f"p{round(share * 100)} {names}") for share in (0.5, 0.99)]


FAILED = 'cause!="-"'
SHARE_FAILED = f"{rate('dragoman_exchanges_total', 'destination', FAILED)} / {rate('dragoman_exchanges_total', 'destination')}"

# Row, then panels: title, unit, queries as (expression, legend), what it is for.
ROWS = [
    ("Traffic", [
        ("Flows open", "short",
         [(level("dragoman_flows_open", "instance"), "{{instance}}"),
          (level("dragoman_flows_limit", "instance"), "limit of {{instance}}")],
         "Captured connections. At the limit new ones are reset."),
        ("Flows by protocol", "ops", [(rate("dragoman_flows_total", "protocol"), "{{protocol}}")],
         "Connections that ended, by what they spoke."),
        ("Exchanges by destination", "reqps",
         [(rate("dragoman_exchanges_total", "destination"), "{{destination}}")], "HTTP requests."),
        ("Responses by status", "reqps", [(rate("dragoman_exchanges_total", "code"), "{{code}}")],
         "What the apps saw; - is no status at all."),
        ("Bytes", "Bps", [(rate("dragoman_bytes_total", "destination, direction"), "{{destination}} {{direction}}")],
         "Relayed, counted when a flow or an exchange ends."),
        ("gRPC calls by status", "reqps",
         [(rate("dragoman_grpc_responses_total", "grpc_status"), "{{grpc_status}}")], "Calls that were answered."),
    ]),
    ("Failures by cause", [
        ("Share of exchanges that fail", "percentunit", [(SHARE_FAILED, "{{destination}}")],
         "With any cause, those of the app included."),
        ("Exchanges by cause", "reqps",
         [(rate("dragoman_exchanges_total", "destination, cause", FAILED), "{{destination}} {{cause}}")],
         "docs/causes.md says who ended it and why."),
        ("Flows by cause", "ops",
         [(rate("dragoman_flows_total", "destination, cause", FAILED), "{{destination}} {{cause}}")],
         "The same for what is not HTTP."),
        ("Failed attempts by endpoint", "reqps",
         [(rate("dragoman_endpoint_attempts_total", "destination, endpoint", 'outcome="failure"'),
           "{{destination}} {{endpoint}}")],
         "Which server it is. Other jumps when an idle endpoint joins it."),
        ("Attempts by outcome", "reqps", [(rate("dragoman_attempts_total", "outcome"), "{{outcome}}")],
         "Before retries: what the servers did."),
        ("Defects", "short", [(level("dragoman_defects_total", "instance"), "{{instance}}")],
         "Flows that a defect in dragoman ended: to be reported."),
    ]),
    ("Latency", [
        ("Exchange", "s", times("dragoman_exchange_seconds"), "As the app sees it, with all attempts and both bodies."),
        ("First byte", "s", times("dragoman_first_byte_seconds"), "One attempt, until its response head: the server."),
        ("Connect", "s", times("dragoman_connect_seconds"), "The network, and a server that is slow to accept."),
        ("Sniff", "s", times("dragoman_sniff_seconds", "protocol"),
         "Until the protocol is known; the silence of the app is in it."),
        ("Exchanges by duration", "s",
         [(rate("dragoman_exchange_seconds_bucket", "le"), "{{le}}")], "A heat map of all destinations."),
    ]),
    ("Resilience", [
        ("Breakers that are not closed", "short",
         [(level("dragoman_breakers", "destination, state", 'state!="closed"'), "{{destination}} {{state}}")],
         "Endpoints that are not asked."),
        ("Breaker by endpoint", "short",
         [(level("dragoman_endpoint_breaker_state", "destination, endpoint", over="max"), "{{destination}} {{endpoint}}")],
         "0 closed, 1 half-open, 2 open."),
        ("Breaker transitions", "ops",
         [(rate("dragoman_breaker_transitions_total", "destination, to"), "{{destination}} {{to}}")],
         "Many of them: an endpoint that comes and goes."),
        ("Retries by reason", "reqps",
         [(rate("dragoman_retries_total", "destination, reason"), "{{destination}} {{reason}}")],
         "Failures that the app did not see."),
        ("Retries refused", "reqps",
         [(rate("dragoman_retry_refusals_total", "destination, reason"), "{{destination}} {{reason}}")],
         "Failures that it did see, and why."),
        ("Retry budget", "short",
         [(level("dragoman_retry_budget_balance", "destination", over="min"), "{{destination}}")],
         "Retries that the emptiest endpoint would still grant."),
        ("Pooled connections", "short",
         [(level("dragoman_pool_connections", "destination, protocol, state"), "{{destination}} {{protocol}} {{state}}")],
         "Upstream connections that are shared."),
        ("Waiting for a connection", "short",
         [(level("dragoman_pool_waiting", "destination"), "{{destination}} waiting"),
          (level("dragoman_pool_streams", "destination"), "{{destination}} streams")],
         "The queue in front of pool.max_size; streams on HTTP/2 connections."),
        ("Upstream connections taken", "ops",
         [(rate("dragoman_upstream_connections_total", "destination, how"), "{{destination}} {{how}}"),
          (rate("dragoman_upstream_idle_closed_total", "destination"), "{{destination}} closed unused")],
         "How much the pool saves."),
    ]),
    ("Capture", [
        ("Connection tracking", "percentunit",
         [(f"{level('dragoman_conntrack_entries', 'instance')} / {level('dragoman_conntrack_limit', 'instance')}",
           "{{instance}}")],
         "At 100 % the kernel drops new connections."),
        ("Ports", "percentunit",
         [(f"{level('dragoman_ports_used', 'instance, side')} / {level('dragoman_ports_limit', 'instance, side')}",
           "{{instance}} {{side}}")],
         "Of the busiest pair of addresses, TIME_WAIT included."),
        ("Early dials", "ops", [(rate("dragoman_early_dials_total", "result"), "{{result}}")],
         "Connections made while the app was silent."),
        ("Accept errors", "ops", [(rate("dragoman_accept_errors_total", "kind"), "{{kind}}")],
         "Descriptors or memory have run out."),
    ]),
    ("Process", [
        ("Versions", "short", [(level("dragoman_build_info", "version, profile"), "{{version}} {{profile}}")],
         "Processes by version: one line, but for an upgrade."),
        ("Configurations", "short",
         [(f'count_values("hash", dragoman_config_hash{{{selected("")}}})', "{{hash}}")],
         "Processes by configuration in force: one line, but for a roll-out."),
        ("Reloads", "short",
         [(level("dragoman_config_reloads_total", "result"), "{{result}}"),
          (level("dragoman_config_last_reload_successful", over="min"), "all in force")],
         "Refused ones leave the configuration before in force."),
        ("Certificates", "s",
         [(f"{level('dragoman_tls_certificate_expiry_seconds', 'destination', over='min')} - time()", "{{destination}}")],
         "Until the next one that is presented expires."),
        ("Files of TLS", "short",
         [(level("dragoman_tls_reloads_total", "result"), "{{result}}"),
          (level("dragoman_tls_files_refused", "instance"), "{{instance}} refuses")],
         "Changes of certificates, keys, roots and revocation lists; where they are refused the last good ones stay."),
        ("Processor time", "percentunit", [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
         "1 is one core."),
        ("Memory", "bytes", [(level("process_resident_memory_bytes", "instance"), "{{instance}}")], "Resident."),
        ("Descriptors and threads", "short",
         [(level("process_open_fds", "instance"), "{{instance}} descriptors"),
          (level("process_max_fds", "instance"), "limit of {{instance}}"),
          (level("process_threads", "instance"), "{{instance}} threads")],
         "Each flow takes two descriptors or more."),
        ("Access log", "short",
         [(rate("dragoman_access_log_dropped_total", "instance"), "{{instance}} lost per second"),
          (level("dragoman_access_log_waiting", "instance"), "{{instance}} waiting")],
         "Lines that were lost, and lines that wait for the disk."),
        ("Traces", "ops",
         [(rate("dragoman_spans_exported_total", "instance"), "{{instance}} exported"),
          (rate("dragoman_spans_dropped_total", "instance, reason"), "{{instance}} lost: {{reason}}")],
         "Spans, where trace.endpoint is stated."),
        ("Uptime", "s", [(f"time() - {level('process_start_time_seconds', 'instance', over='min')}", "{{instance}}")],
         "Since the last start."),
    ]),
]


def dashboard() -> dict:
    panels, top = [], 0
    for row, entries in ROWS:
        panels.append({"type": "row", "title": row, "collapsed": False, "id": len(panels) + 1, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": WIDTH * COLUMNS, "h": 1}})
        top += 1
        for at, entry in enumerate(entries):
            place = {"x": at % COLUMNS * WIDTH, "y": top + at // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(panel(len(panels) + 1, place, *entry))
        top += -(-len(entries) // COLUMNS) * HEIGHT
    return {
        "uid": "dragoman", "title": "dragoman", "tags": ["dragoman"], "schemaVersion": 39, "version": 1,
        "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "",
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(dragoman_build_info, job)"),
            variable("instance", 'label_values(dragoman_build_info{job=~"$job"}, instance)'),
        ]},
        "panels": panels,
    }


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name: str, query: str) -> dict:
    return {"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "definition": query, "includeAll": True, "multi": True, "refresh": 2, "sort": 1,
            "current": {"text": ["All"], "value": ["$__all"]}}


def panel(number: int, place: dict, title: str, unit: str, queries: list, about: str) -> dict:
    heat = title == "Exchanges by duration"
    targets = [{"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expression, "legendFormat": legend,
                "format": "heatmap" if heat else "time_series"} for at, (expression, legend) in enumerate(queries)]
    shown = {"id": number, "title": title, "description": about, "datasource": SOURCE, "gridPos": place,
             "targets": targets}
    if heat:
        return shown | {"type": "heatmap", "options": {"calculate": False, "yAxis": {"unit": unit}}}
    return shown | {"type": "timeseries",
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
                    "options": {"legend": {"displayMode": "list", "placement": "bottom"},
                                "tooltip": {"mode": "multi", "sort": "desc"}}}


INTRODUCTION = """\
# Monitoring

<!-- Made by deploy/grafana/generate.py, from itself and deploy/prometheus/alerts.yml. -->

Have Prometheus scrape `/metrics` on the admin address of each process; [metrics.md](metrics.md) says what is on it. Beyond
loopback the address must be stated (`admin.listen`).

## Dashboard

Import [deploy/grafana/dragoman.json](../deploy/grafana/dragoman.json) into Grafana. It asks for a Prometheus data source, and has
all jobs and instances that `dragoman_build_info` knows.

| Row | Panel | What it is for |
|---|---|---|
"""

ALERTS_INTRODUCTION = """
## Alerts

[deploy/prometheus/alerts.yml](../deploy/prometheus/alerts.yml) goes into `rule_files`; `alerts.test.yml` beside it is its test
(`promtool test rules`). For the Prometheus operator, [deploy/kubernetes/components/alerts](../deploy/kubernetes/components/alerts) has the same
as a PrometheusRule.

| Alert | Severity | When |
|---|---|---|
"""


def page() -> str:
    text = INTRODUCTION
    for row, entries in ROWS:
        text += "".join(f"| {row} | {title} | {about} |\n" for title, _, _, about in entries)
    text += ALERTS_INTRODUCTION
    for name, severity, summary in re.findall(
            r"- alert: (\w+).*?severity: (\w+).*?summary: \"([^\"]*)\"", ALERTS.read_text(), re.DOTALL):
        when = re.sub(r"{{ *[$](?:labels[.])?(\w+)[^}]*}}", r"_\1_", summary)
        text += f"| `{name}` | {severity} | {when} |\n"
    return text


RULE_HEAD = """\
# Made by deploy/grafana/generate.py from deploy/prometheus/alerts.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dragoman
spec:
"""


def rule() -> str:
    """The groups of alerts.yml, two columns further in, below `spec`."""
    _, groups = ALERTS.read_text().split("\ngroups:\n")
    return RULE_HEAD + re.sub(r"^(?=.)", "  ", "groups:\n" + groups, flags=re.MULTILINE)


def main() -> int:
    written = {DASHBOARD: json.dumps(dashboard(), indent=1) + "\n", PAGE: page(), RULE: rule()}
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in written.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path} is stale: renew it with deploy/grafana/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in written.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
