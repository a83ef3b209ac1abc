// (run_id, key, value [, timestamp_ms, step]), many rows -> one POST runs/log-batch.
function request(event) {
  const rows = event.body.data;
  if (rows.length > 1000) {
    refuse("MLflow takes 1000 metrics a request, this batch has " + rows.length + ".");
  }
  const run = text(rows[0][1], "run_id");
  const now = Date.now();
  const metrics = rows.map((row) => {
    // Snowflake makes one POST of a batch, and one POST reaches one run.
    if (text(row[1], "run_id") !== run) {
      refuse("the rows of one statement must belong to one run: call it for one run_id at a time.");
    }
    return metric(row[2], row[3], row[4], row[5], now);
  });
  return post(event, { run_id: run, metrics: metrics });
}
