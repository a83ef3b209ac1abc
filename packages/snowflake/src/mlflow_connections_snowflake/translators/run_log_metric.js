// (run_id, key, value [, timestamp_ms, step]) -> POST runs/log-metric.
function request(event) {
  const row = onlyRow(event);
  const run = { run_id: text(row[0], "run_id") };
  return post(event, Object.assign(run, metric(row[1], row[2], row[3], row[4], Date.now())));
}
