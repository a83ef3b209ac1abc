// (experiment_id [, run_name, start_time_ms, tags]) -> POST runs/create.
function request(event) {
  const row = onlyRow(event);
  const body = {
    experiment_id: text(row[0], "experiment_id"),
    // Without a start time MLflow dates the run 1970.
    start_time: whole(row[2], "start_time", Date.now()),
    tags: pairs(row[3], "tags")
  };
  const name = optionalText(row[1]);
  if (name !== undefined) {
    body.run_name = name;
  }
  return post(event, body);
}
