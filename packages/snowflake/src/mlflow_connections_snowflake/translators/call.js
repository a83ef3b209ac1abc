// (path, body) -> POST to one of these paths of MLflow's REST API, and to no other.
const PATHS = [
  "experiments/create",
  "experiments/search",
  "experiments/set-experiment-tag",
  "logged-models",
  "logged-models/search",
  "model-versions/create",
  "registered-models/create",
  "runs/create",
  "runs/delete",
  "runs/delete-tag",
  "runs/log-batch",
  "runs/log-inputs",
  "runs/log-metric",
  "runs/log-model",
  "runs/log-parameter",
  "runs/outputs",
  "runs/search",
  "runs/set-tag",
  "runs/update"
];

function request(event) {
  const row = onlyRow(event);
  const path = text(row[0], "path");
  if (PATHS.indexOf(path) === -1) {
    refuse("the path " + JSON.stringify(path) + " is none of those that may be called: " + PATHS.join(", ") + ".");
  }
  const body = parsed(row[1]);
  if (!isObject(body)) {
    refuse("body must be an object.");
  }
  return Object.assign(post(event, body), { urlSuffix: path });
}
