// (run_id, payload {metrics, params, tags}) -> POST runs/log-batch.
function request(event) {
  const row = onlyRow(event);
  const payload = parsed(row[1]);
  if (!isObject(payload)) {
    refuse("payload must be an object of metrics, params and tags.");
  }
  const unknown = Object.keys(payload).filter((key) => ["metrics", "params", "tags"].indexOf(key) === -1);
  if (unknown.length > 0) {
    refuse("payload may hold metrics, params and tags, not " + unknown.join(", ") + ".");
  }
  const given = payload.metrics === null || payload.metrics === undefined ? [] : payload.metrics;
  if (!Array.isArray(given) || !given.every(isObject)) {
    refuse("metrics must be an array of {key, value, timestamp, step}.");
  }
  const now = Date.now();
  const body = {
    run_id: text(row[0], "run_id"),
    metrics: given.map((one) => metric(one.key, one.value, one.timestamp, one.step, now)),
    params: pairs(payload.params, "params"),
    tags: pairs(payload.tags, "tags")
  };
  const limits = { metrics: 1000, params: 100, tags: 100 };
  Object.keys(limits).forEach((kind) => {
    if (body[kind].length > limits[kind]) {
      refuse("MLflow takes " + limits[kind] + " " + kind + " a request, payload has " + body[kind].length + ": split it.");
    }
  });
  const total = body.metrics.length + body.params.length + body.tags.length;
  if (total > 1000) {
    refuse("MLflow takes 1000 metrics, params and tags together, payload has " + total + ": split it.");
  }
  return post(event, body);
}
