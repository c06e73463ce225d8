import { AccessLog } from '../audit/access-log.ts';
import { OperatorLog } from '../audit/operator-log.ts';
import { IssuedSvids } from '../agents/issued-svids.ts';
import { JoinTokens } from '../agents/join-tokens.ts';
import { NodeAddresses } from '../agents/node-addresses.ts';
import { Nodes } from '../agents/nodes.ts';
import { TpmHosts } from '../agents/tpm-hosts.ts';
import type { OnlineAuthority } from '../ca/online-authority.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { EnforcementReports } from '../enforcement/enforcement-reports.ts';
import { Enforcements } from '../enforcement/enforcement.ts';
import { readHealth, type ServerState } from '../health/health.ts';
import type { OperatorCapabilities } from '../http/operator-app.ts';
import { Operators } from '../operators/operators.ts';
import type { PolicyAdmin } from '../policy-admin/policy-admin.ts';
import { Quarantines } from '../quarantine/quarantines.ts';
import { Registration } from '../registration/registration.ts';
import { NodePlaces } from '../services/node-places.ts';
import { Services } from '../services/services.ts';
import { clock, secureRandom, type Start } from './start.ts';

/** What the server says of itself. */
export function buildState(
  { config, runtime }: Start,
  parts: Pick<ServerState, 'datastore' | 'authority' | 'sync' | 'clockWatch' | 'crowds' | 'budget'>,
): ServerState {
  const { trustDomain, dataDirectory, database } = config;
  const isEmbedded = database.url === undefined && database.urlFile === undefined;
  const databaseKind = isEmbedded ? 'pglite' : 'postgresql';
  return { ...parts, version: runtime.version, trustDomain, databaseKind, dataDirectory, clock };
}

/** What the capabilities stand on. */
export interface Core {
  readonly datastore: Datastore;
  readonly authority: OnlineAuthority;
  readonly policies: PolicyAdmin;
  readonly state: ServerState;
}

/** Everything that operators and agents may ask for, each by itself. */
export function buildCapabilities({ config, log }: Start, core: Core): OperatorCapabilities {
  const { datastore, authority, policies, state } = core;
  const { trustDomain } = config;
  const enforcements = new Enforcements({ datastore, clock, trustDomain });
  const reports = new EnforcementReports({ datastore, enforcements, clock });
  return {
    datastore,
    authority,
    policies,
    trustDomain,
    registration: new Registration({ datastore, clock, trustDomain }),
    tokens: new JoinTokens({ datastore, clock, trustDomain, randomBytes: secureRandom }),
    tpmHosts: new TpmHosts(datastore),
    nodes: new Nodes({ datastore, clock, log }),
    nodeAddresses: new NodeAddresses(datastore),
    issued: new IssuedSvids({ datastore, clock }),
    accessLog: new AccessLog({ datastore, log }),
    operatorLog: new OperatorLog({ datastore, clock }),
    operators: new Operators({ datastore, clock }),
    quarantines: new Quarantines({ datastore, clock }),
    services: new Services({ datastore, clock, trustDomain }),
    nodePlaces: new NodePlaces({ datastore, trustDomain }),
    enforcements,
    reportEnforcement: async (scope, sinceMs) => await reports.report(scope, sinceMs),
    rootKeySha256: () => authority.rootKeySha256,
    temporaryDirectory: config.policy.temporaryDirectory,
    readHealth: async () => await readHealth(state),
  };
}
