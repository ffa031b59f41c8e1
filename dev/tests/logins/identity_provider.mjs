// An OpenID provider that issues tokens to clients: node --input-type=module - PORT SECRET < THIS_FILE
import { Provider } from "oidc-provider";

const [port, client_secret] = process.argv.slice(2);
const LIFETIMES = { airflow: 600, counted: 600, brief: 20, stranger: 600 }; // in seconds, by client

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: Object.keys(LIFETIMES).map((client_id) => ({
    client_id,
    client_secret,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  })),
  ttl: { ClientCredentials: (ctx, token, client) => LIFETIMES[client.clientId] },
  extraTokenClaims: (ctx) => ({ groups: ctx.oidc.client.clientId === "stranger" ? [] : ["mlflow"] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      defaultResource: (ctx) => ctx.oidc.body.audience,
      getResourceServerInfo: (ctx, audience) => ({ scope: "mlflow", audience, accessTokenFormat: "jwt" }),
    },
  },
});
provider.on("grant.success", (ctx) => console.log(`issued a token to ${ctx.oidc.client.clientId}`));
provider.listen(Number(port), "127.0.0.1");
