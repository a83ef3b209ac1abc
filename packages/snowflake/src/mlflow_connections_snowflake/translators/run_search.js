// (experiment_ids, filter [, max_results, order_by, page_token]) -> POST runs/search.
function request(event) {
  const row = onlyRow(event);
  const list = (value) => {
    const given = parsed(value);
    return given === null || given === undefined ? [] : Array.isArray(given) ? given : [given];
  };
  const body = {
    experiment_ids: list(row[0]).map((id) => text(id, "an experiment_id")),
    filter: row[1] === null || row[1] === undefined ? "" : text(row[1], "filter"),
    run_view_type: "ACTIVE_ONLY",
    max_results: whole(row[2], "max_results", 100),
    order_by: list(row[3]).map((column) => text(column, "a column in order_by"))
  };
  const token = optionalText(row[4]);
  if (token !== undefined && token !== "") {
    body.page_token = token;
  }
  return post(event, body);
}
