// (run_id, key, value) -> POST runs/set-tag.
function request(event) {
  const row = onlyRow(event);
  const body = { run_id: text(row[0], "run_id"), key: text(row[1], "key"), value: text(row[2], "value") };
  return post(event, body);
}
