import { startServerCertificate } from '../ca/server-certificate.ts';
import type { OnlineAuthority } from '../ca/online-authority.ts';
import type { ServerState } from '../health/health.ts';
import { DEFAULT_LIMITS } from '../http/limits.ts';
import { startTlsListener } from '../http/listeners/tls-listener.ts';
import { startUnixListener } from '../http/listeners/unix-listener.ts';
import { buildAgents, type AgentParts } from './agent-app.ts';
import { buildOperators, type OperatorParts } from './operator-app.ts';
import { clock, random, type Start } from './start.ts';

/** What is served, and who is counted that was turned away. */
export interface Served extends AgentParts, OperatorParts {
  readonly authority: OnlineAuthority;
  readonly crowds: ServerState['crowds'];
}

/** Opens the local socket, the operators' port where there is one, and last the agents' port. */
export async function listen(start: Start, served: Served): Promise<void> {
  const { config, log, shutdown } = start;
  const { authority, crowds } = served;
  const certificate = await startServerCertificate({
    authority,
    trustDomain: config.trustDomain,
    names: config.listen.names,
    clock,
    random,
    log,
  });
  shutdown.add('certificate', async () => await certificate.stop());
  const draining = new AbortController();
  const common = { limits: DEFAULT_LIMITS, clock, log };
  const operatorApp = await buildOperators(start, served, draining.signal);
  const agentApp = buildAgents(start, served, draining.signal);
  const socket = await startUnixListener({
    ...common,
    crowd: crowds.socket,
    path: config.listen.socket,
    findPeerCredentials: start.runtime.findPeerCredentials,
    fetch: operatorApp.fetch,
  });
  shutdown.add('socket', async () => await socket.stop());
  if (config.listen.operators !== undefined) {
    const operators = await startTlsListener({
      ...common,
      crowd: crowds.operators,
      address: config.listen.operators,
      certificate,
      fetch: operatorApp.fetch,
    });
    shutdown.add('operators', async () => await operators.stop());
  }
  const agents = await startTlsListener({
    ...common,
    crowd: crowds.agents,
    address: config.listen.agents,
    certificate,
    fetch: agentApp.fetch,
  });
  shutdown.add('agents', async () => await agents.stop());
  shutdown.add('streams', () => draining.abort());
}
