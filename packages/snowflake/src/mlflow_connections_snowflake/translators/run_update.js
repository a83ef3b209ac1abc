// (run_id, status [, end_time_ms]) -> POST runs/update.
function request(event) {
  const row = onlyRow(event);
  const ends = { RUNNING: false, SCHEDULED: false, FINISHED: true, FAILED: true, KILLED: true };
  const status = text(row[1], "status").toUpperCase();
  // MLflow responds 200 to an unknown status, and ignores it.
  if (!Object.prototype.hasOwnProperty.call(ends, status)) {
    refuse("status must be one of " + Object.keys(ends).join(", ") + ", not " + JSON.stringify(row[1]) + ".");
  }
  const body = { run_id: text(row[0], "run_id"), status: status };
  // Without an end time MLflow stores none.
  const end = whole(row[2], "end_time", ends[status] ? Date.now() : undefined);
  if (end !== undefined) {
    body.end_time = end;
  }
  return post(event, body);
}
