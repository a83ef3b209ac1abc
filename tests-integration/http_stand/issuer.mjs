// A certified OpenID provider, npm's oidc-provider, on https: node issuer.mjs CONFIG.json
//
// Beside the provider's own paths: GET /stand/issued counts the access tokens, POST /stand/revoke revokes them all.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { pathToFileURL } from "node:url";

const config = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { default: Provider, errors } = await import(pathToFileURL(config.provider));

let records = new Map();
let issued = 0;

// The provider's own adapter for memory cannot be emptied.
class Memory {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { records.set(this.key(id), payload); }
  async find(id) { return records.get(this.key(id)); }
  async destroy(id) { records.delete(this.key(id)); }
  async consume() {}
  async findByUid() {}
  async findByUserCode() {}
  async revokeByGrantId() {}
}

const provider = new Provider(config.issuer, {
  adapter: Memory,
  clients: config.clients,
  enabledJWA: { clientAuthSigningAlgValues: ["ES256"] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: {
      enabled: true,
      allowedPolicy: (_context, client) => client.clientId === config.introspector,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_context, resource) {
        const found = config.resources[resource];
        if (!found) throw new errors.InvalidTarget();
        return {
          audience: resource,
          scope: "tracking",
          accessTokenTTL: config.lifetime,
          accessTokenFormat: found,
          jwt: { sign: { alg: "RS256" } },
        };
      },
    },
  },
  scopes: ["tracking"],
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
});
provider.on("grant.success", () => { issued += 1; });
const answer = provider.callback();

const server = createServer(
  { cert: readFileSync(config.certificate), key: readFileSync(config.key) },
  (request, response) => {
    if (request.url === "/stand/issued") {
      response.end(String(issued));
    } else if (request.url === "/stand/revoke" && request.method === "POST") {
      records = new Map();
      response.end();
    } else {
      answer(request, response);
    }
  },
);
server.listen(config.port, "127.0.0.1", () => console.log("ready"));
// It ends with the process that holds its standard input.
process.stdin.on("end", () => process.exit(0)).resume();
