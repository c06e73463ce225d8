import type { Hono } from 'hono';
import { addressKey } from '../../shared/runtime/address-key.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { IssuedSvids } from '../agents/issued-svids.ts';
import type { JoinTokens } from '../agents/join-tokens.ts';
import type { NodeAddresses } from '../agents/node-addresses.ts';
import type { Nodes } from '../agents/nodes.ts';
import type { TpmHosts } from '../agents/tpm-hosts.ts';
import type { AccessLog } from '../audit/access-log.ts';
import type { OperatorLog } from '../audit/operator-log.ts';
import type { CertificateAuthority } from '../ca/ca.ts';
import type { Datastore } from '../datastore/datastore.ts';
import type { Enforcements } from '../enforcement/enforcement.ts';
import type { Operators } from '../operators/operators.ts';
import type { PolicyAdmin } from '../policy-admin/policy-admin.ts';
import type { Quarantines } from '../quarantine/quarantines.ts';
import type { Registration } from '../registration/registration.ts';
import type { NodePlaces } from '../services/node-places.ts';
import type { Services } from '../services/services.ts';
import { authenticateOperator, type FindOperator, type Verification } from './authenticate.ts';
import type { DecideAdmin } from './authorize.ts';
import { buildApp } from './build-app.ts';
import type { OperatorCaller } from './caller.ts';
import { operatorGate } from './gate.ts';
import { RateLimit, type HttpLimits } from './limits.ts';
import { mountRoutes, type HttpEnvironment } from './mount-routes.ts';
import { buildOpenApi } from './openapi.ts';
import { peerConnectionOf, type NodeBindings } from './peer-connection.ts';
import { buildReferencePage } from './reference-page.ts';
import type { Route } from './route.ts';
import { auditRoutes } from './routes/operators/audit.ts';
import { enforcementRoutes, type EnforcementRouteOptions } from './routes/operators/enforcement.ts';
import { entryRoutes } from './routes/operators/entries.ts';
import { nodeRoutes } from './routes/operators/nodes.ts';
import { operatorRoutes } from './routes/operators/operators.ts';
import { policyRoutes } from './routes/operators/policies.ts';
import { quarantineRoutes } from './routes/operators/quarantines.ts';
import { serverRoutes, type ReadHealth } from './routes/operators/server.ts';
import { serviceRoutes } from './routes/operators/services.ts';
import { tokenRoutes } from './routes/operators/tokens.ts';
import { tpmHostRoutes } from './routes/operators/tpm-hosts.ts';
import { workloadRoutes } from './routes/operators/workloads.ts';

/** What operators reach through the API. */
export interface OperatorCapabilities {
  readonly registration: Registration;
  readonly tokens: JoinTokens;
  readonly tpmHosts: TpmHosts;
  readonly nodes: Nodes;
  readonly nodeAddresses: NodeAddresses;
  readonly issued: IssuedSvids;
  readonly policies: PolicyAdmin;
  readonly accessLog: AccessLog;
  readonly operatorLog: OperatorLog;
  readonly operators: Operators;
  readonly quarantines: Quarantines;
  readonly enforcements: Enforcements;
  readonly services: Services;
  readonly nodePlaces: NodePlaces;
  readonly reportEnforcement: EnforcementRouteOptions['report'];
  readonly authority: CertificateAuthority;
  readonly datastore: Datastore;
  readonly readHealth: ReadHealth;
  readonly rootKeySha256: () => string;
  /** For files that live as long as a request. */
  readonly temporaryDirectory: string;
  readonly trustDomain: TrustDomain;
}

export interface OperatorAppOptions {
  readonly capabilities: OperatorCapabilities;
  readonly verification: Verification;
  readonly findOperator: FindOperator;
  readonly decide: DecideAdmin;
  readonly version: string;
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborted when the server drains. */
  readonly draining: AbortSignal;
}

/** Everything that operators may ask, as one table. */
function listOperatorRoutes(capabilities: OperatorCapabilities): readonly Route<OperatorCaller>[] {
  const { trustDomain, authority } = capabilities;
  return [
    ...entryRoutes(capabilities.registration),
    ...nodeRoutes({
      nodes: capabilities.nodes,
      addresses: capabilities.nodeAddresses,
      places: capabilities.nodePlaces,
    }),
    ...tokenRoutes({ tokens: capabilities.tokens, trustDomain, rootKeySha256: capabilities.rootKeySha256 }),
    ...tpmHostRoutes({ hosts: capabilities.tpmHosts, trustDomain }),
    ...quarantineRoutes(capabilities.quarantines),
    ...enforcementRoutes({
      enforcements: capabilities.enforcements,
      report: capabilities.reportEnforcement,
    }),
    ...serviceRoutes({ services: capabilities.services, places: capabilities.nodePlaces }),
    ...policyRoutes(capabilities.policies),
    ...workloadRoutes(capabilities.issued),
    ...auditRoutes({ access: capabilities.accessLog, operators: capabilities.operatorLog }),
    ...operatorRoutes({ operators: capabilities.operators, authority, trustDomain }),
    ...serverRoutes(capabilities),
  ];
}

/** A document that is asked for and not read stands in our memory, and anybody may ask. */
function requireRead(reads: RateLimit, environment: NodeBindings): void {
  if (reads.tryTake(addressKey(peerConnectionOf(environment).remoteAddress))) return;
  throw new PicketError('resource_exhausted', 'too_many_reads', 'Too many reads from this address');
}

/** What is served on 8444 and on the local socket. The document and the reference page describe the API and hold nothing else: anybody may read them. */
export async function buildOperatorApp(options: OperatorAppOptions): Promise<Hono<HttpEnvironment>> {
  const { limits, clock, log, draining, decide, capabilities } = options;
  const app = buildApp(log);
  const routes = listOperatorRoutes(capabilities);
  const document = buildOpenApi(routes, {
    title: 'Picket',
    version: options.version,
    description:
      'The operators’ API of a Picket server: mutual TLS on 8444, or the unix socket on the server’s own host.',
  });
  const page = await buildReferencePage(document);
  const reads = new RateLimit({ burst: limits.documentBurst, perSecond: limits.documentsPerSecond, clock });
  for (const path of ['/openapi.json', '/docs'])
    app.use(path, async ({ env }, next) => {
      requireRead(reads, env);
      await next();
    });
  app.get('/openapi.json', (context) => context.json(document));
  app.get('/docs', (context) => {
    context.header('content-security-policy', page.contentSecurityPolicy);
    return context.html(page.body);
  });
  mountRoutes(app, routes, {
    gate: operatorGate({
      authenticate: async (connection) =>
        await authenticateOperator(connection, {
          ...options.verification,
          findOperator: options.findOperator,
        }),
      decide,
      record: async (record) => await capabilities.operatorLog.append(record),
      log,
    }),
    limits,
    clock,
    log,
    draining,
    concurrency: new ConcurrencyLimit(limits.maxRequestsPerPeer),
  });
  return app;
}
