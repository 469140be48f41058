// Validates objects of the Prometheus operator (monitoring.coreos.com/v1) against the types of its own Go sources.
//
// Takes a JSON list of objects from standard input, and prints as JSON what is wrong with each: a list of lines.

import { text } from "node:stream/consumers";

import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

// The validators overlook fields that they do not know. So each field that they look at is noted, and what nobody
// looked at is unknown.
function watched(value, path, unread) {
    if (value === null || typeof value !== "object") return value;
    const copy = Array.isArray(value) ? [] : {};
    for (const [key, inner] of Object.entries(value)) {
        const way = `${path}/${key}`;
        if (!Array.isArray(value)) unread.add(way);
        copy[key] = watched(inner, way, unread);
    }
    return new Proxy(copy, {
        get(target, key, receiver) {
            unread.delete(`${path}/${String(key)}`);
            return Reflect.get(target, key, receiver);
        },
    });
}

function errors(object) {
    const { apiVersion, kind, metadata, spec, ...others } = object;
    const model = apiVersion === "monitoring.coreos.com/v1" && models[kind];
    if (!model) return [`no ${kind} of ${apiVersion}`];
    const unread = new Set(Object.keys(others).map((key) => `/${key}`));
    const found = new model({ metadata });
    found.spec = watched(spec, "/spec", unread); // behind the constructor, which reads all
    try {
        found.validate();
    } catch (error) {
        return [error.message];
    }
    return [...unread].map((path) => `${path} is unknown`);
}

console.log(JSON.stringify(JSON.parse(await text(process.stdin)).map(errors)));
