// (path, body) -> POST to one of PATHS below MLflow's REST API, and to no other. The generator
// writes PATHS before this text.
function request(event) {
  const row = onlyRow(event);
  const path = text(row[0], "path");
  if (PATHS.indexOf(path) === -1) {
    refuse("the path " + JSON.stringify(path) + " is not one of those that may be called: " + PATHS.join(", ") + ".");
  }
  const body = parsed(row[1]);
  if (!isObject(body)) {
    refuse("body must be an object.");
  }
  return Object.assign(post(event, body), { urlSuffix: path });
}
