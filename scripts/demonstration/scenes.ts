import { z } from 'zod';
import { accessPage, policyActivated } from '../../shared/protocol/operator.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { Narrator } from './narrator.ts';
import type { PacketCapture } from './packet-capture.ts';
import { askCurl, showCurl, showPsql } from './requests.ts';
import { TRUST_DOMAIN, USERS, type Stage } from './stage.ts';

const POLICIES = new URL('policies/', import.meta.url).pathname;

const problem = z.object({ decision_id: z.string(), reason: z.string(), message: z.string() });

/** What every scene needs. */
export interface Scene {
  readonly stage: Stage;
  readonly narrator: Narrator;
}

export async function attestHosts({ stage, narrator }: Scene): Promise<void> {
  const { mesh, control, store, desk } = stage;
  narrator.step(
    'Two hosts prove by their TPMs which machines they are',
    'An unknown TPM gets nothing. Once an operator approved it, the host gets an identity that its TPM vouches for.',
  );
  for (const agent of [store, desk]) {
    narrator.command(agent.name, 'picket agent run --config agent.yaml');
    await mesh.admitTpmHost(agent);
    narrator.command('server', `picket node tpm approve <hash of its endorsement key> --name ${agent.name}`);
  }
  const nodes = await control.picketOk('node', 'list');
  narrator.command('server', 'picket node list');
  narrator.output(nodes);
  narrator.expect(
    nodes.includes('/tpm/store') && nodes.includes('/tpm/desk'),
    'both hosts have attested, each with a certificate of its own',
  );
}

export async function registerWorkloads({ stage, narrator }: Scene): Promise<void> {
  const { mesh, control, store, desk } = stage;
  narrator.step(
    'Workloads are registered: which process on which host is which identity',
    'Nothing is installed in nginx, PostgreSQL, curl or psql. The kernel says which process owns a connection.',
  );
  const on = { on: store };
  await mesh.register({ ...on, path: '/invoices', selectors: ['unix:user:www-data'], listen: ['80/auto'] });
  await mesh.register({ ...on, path: '/database', selectors: ['unix:user:postgres'], listen: ['5432/auto'] });
  await mesh.register({ path: '/web', on: desk, selectors: [`unix:uid:${USERS.web}`] });
  await mesh.register({ path: '/reports', on: desk, selectors: [`unix:uid:${USERS.reports}`] });
  narrator.command('server', 'picket entry list');
  narrator.output(await control.picketOk('entry', 'list'));
}

export async function denyByDefault({ stage, narrator }: Scene): Promise<void> {
  const { desk } = stage;
  narrator.step('Without a policy nothing passes', 'The default is to deny, and the host says why.');
  // The registration travels to both agents; until then the destination is not known at all.
  const why = await waitUntil('the workloads are known', async () => {
    await askCurl({ host: desk.host, uid: USERS.web, url: invoicesUrl(stage) });
    const { stdout } = await desk.picket(['why', '--last', '1'], { uid: USERS.web });
    return stdout.includes('no_policy') && stdout;
  });
  const answer = await showCurl(narrator, web(stage, 'GET', '/invoices'));
  narrator.expect(answer.status !== 200, 'the request is refused');
  narrator.command('web@desk', 'picket why --last 1');
  narrator.output(why);
  narrator.expect(why.includes('no_policy'), 'because no policy is in force');
}

export async function decideRequests({ stage, narrator }: Scene): Promise<void> {
  const { control } = stage;
  narrator.step(
    'A policy is published, and every request is decided by it',
    'The web front end may read invoices. It may not make refunds.',
  );
  narrator.command('server', 'picket policy publish policies/first -m "the first policy"');
  narrator.output(await control.picketOk('policy', 'publish', `${POLICIES}first`, '-m', 'the first policy'));
  await waitUntil('the policy is in force', async () => {
    const { status } = await askCurl({ host: stage.desk.host, uid: USERS.web, url: invoicesUrl(stage) });
    return status === 200;
  });
  const read = await showCurl(narrator, web(stage, 'GET', '/invoices'));
  narrator.expect(read.status === 200, 'GET /invoices is allowed');
  const refund = await showCurl(narrator, web(stage, 'POST', '/refunds'));
  const { success } = problem.safeParse(parseJson(refund.body));
  narrator.expect(
    refund.status === 403 && success,
    'POST /refunds is denied, with the reason and the decision’s id',
  );
}

export async function tellUsersApart({ stage, narrator }: Scene): Promise<void> {
  const { desk, store } = stage;
  narrator.step(
    'Two users on one host are two callers',
    'A connection belongs to the process that opened it, not to the address it comes from.',
  );
  const query = { host: desk.host, server: store.host.ipv4, sql: 'select sum(total) from invoices' };
  const allowed = await showPsql(narrator, { ...query, prompt: 'reports@desk', uid: USERS.reports });
  narrator.expect(allowed.stdout.trim() === '200.50', 'psql of the reporting job is allowed');
  const refused = await showPsql(narrator, { ...query, prompt: 'intruder@desk', uid: USERS.intruder });
  narrator.expect(refused.exitCode !== 0, 'the same psql, run by another user of the same host, is refused');
  narrator.command('intruder@desk', 'picket why --last 1');
  const why = await desk.picket(['why', '--last', '1'], { uid: USERS.intruder });
  narrator.output(why.stdout === '' ? why.stderr : why.stdout);
  narrator.expect(
    why.exitCode === 0 && why.stdout.includes('caller_unidentified'),
    'and the host tells that user why: the process has no identity',
  );
}

export async function refuseOutsider({ stage, narrator }: Scene): Promise<void> {
  const { outsider } = stage;
  narrator.step(
    'A host without Picket gets nowhere',
    'It is on the same network and can reach every port. That is worth nothing.',
  );
  const request = { host: outsider, prompt: 'root@outsider', uid: 0, url: invoicesUrl(stage) };
  const http = await showCurl(narrator, request);
  narrator.expect(http.status === 0 || http.status === 403, 'its request for invoices is refused');
  const sql = await showPsql(narrator, {
    host: outsider,
    prompt: 'root@outsider',
    uid: 0,
    server: stage.store.host.ipv4,
    sql: 'select 1',
  });
  narrator.expect(sql.exitCode !== 0, 'so is its connection to the database');
}

export async function changePolicy({ stage, narrator }: Scene): Promise<void> {
  const { control, desk } = stage;
  narrator.step(
    'A policy change is in force on every host in a moment',
    'The server checks it, runs its tests, signs it, and pushes it; each agent swaps it in one step.',
  );
  narrator.command('server', 'picket policy publish policies/second -m "refunds"');
  const published = await control.picketJson(
    policyActivated,
    'policy',
    'publish',
    `${POLICIES}second`,
    '-m',
    'refunds',
  );
  const activatedMs = performance.now();
  const refund = {
    host: desk.host,
    uid: USERS.web,
    method: 'POST',
    url: `http://${stage.store.host.ipv4}/refunds`,
  };
  await waitUntil('the refund is allowed', async () => (await askCurl(refund)).status === 201);
  const tookMs = performance.now() - activatedMs;
  narrator.expect(
    tookMs < 1000,
    `POST /refunds is allowed ${tookMs.toFixed(0)} ms after version ${published.version} was activated`,
  );
}

export async function showAudit({ stage, narrator }: Scene): Promise<void> {
  narrator.step(
    'Afterwards anybody entitled can read who asked for what',
    'Each decision was written down on its host before the request was let through or refused.',
  );
  narrator.command('server', 'picket audit access --limit 8');
  const page = await waitUntil('the decisions have reached the server', async () => {
    const found = await stage.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
    const reasons = new Set(found.items.map(({ reason }) => reason));
    return (
      ['policy_allow', 'policy_deny', 'no_policy', 'caller_unidentified'].every((r) => reasons.has(r)) &&
      found
    );
  });
  for (const record of page.items.slice(0, 8)) {
    const caller = record.caller_spiffe_id?.replace(`spiffe://${TRUST_DOMAIN}`, '') ?? record.source;
    const target = record.target_spiffe_id?.replace(`spiffe://${TRUST_DOMAIN}`, '') ?? record.destination;
    const request = record.method === null ? 'connection' : `${record.method} ${record.path ?? ''}`;
    narrator.output(
      `${record.ts}  ${record.decision.padEnd(5)}  ${caller} → ${target}  ${request}  (${record.reason})`,
    );
  }
  narrator.expect(true, `${page.items.length} decisions so far, the denied ones with their reasons`);
}

export async function readWire({ narrator }: Scene, capture: PacketCapture): Promise<void> {
  narrator.step(
    'On the wire there is only mutual TLS',
    'A packet capture ran between the two hosts during all of the above.',
  );
  const wire = await capture.finish(['/invoices', '/refunds', 'HTTP/1.1', 'select sum']);
  narrator.note(`${wire.packets} packets; connections were opened to port ${wire.ports.join(', ')} only`);
  narrator.expect(
    wire.ports.length === 1 && wire.ports[0] === 15008 && wire.tlsPackets > 0,
    'all traffic between the hosts went to port 15008 as TLS',
  );
  narrator.expect(!wire.hasPlaintext, 'no word of a request, an answer or a query can be read in it');
}

export async function killAgent({ stage, narrator }: Scene): Promise<void> {
  const { store } = stage;
  narrator.step(
    'When an agent dies, traffic is refused, not passed',
    'The rules in the kernel outlive the agent and point at nothing.',
  );
  narrator.command('store', 'kill -9 <picket agent>');
  await store.stop('SIGKILL');
  const dead = await showCurl(narrator, web(stage, 'GET', '/invoices'));
  narrator.expect(dead.status !== 200, 'with the agent of its host dead, nginx cannot be reached');
  narrator.command('store', 'picket agent run --config agent.yaml');
  await store.start();
  await waitUntil('requests pass again', async () => {
    return (await askCurl({ host: stage.desk.host, uid: USERS.web, url: invoicesUrl(stage) })).status === 200;
  });
  narrator.expect(true, 'started again, it goes on from its sealed state: GET /invoices is allowed');
}

export async function killServer({ stage, narrator }: Scene): Promise<void> {
  const { control } = stage;
  narrator.step(
    'When the server dies, traffic goes on',
    'Each host holds its certificates and its policy. Decisions are kept until the server is back.',
  );
  narrator.command('server', 'kill -9 <picket server>');
  await control.stop('SIGKILL');
  const answer = await showCurl(narrator, web(stage, 'GET', '/invoices'));
  narrator.expect(answer.status === 200, 'GET /invoices is still allowed');
  const denied = await showCurl(narrator, web(stage, 'DELETE', '/invoices'));
  const decisionId = problem.safeParse(parseJson(denied.body)).data?.decision_id ?? '';
  narrator.expect(denied.status === 403, 'DELETE /invoices is still denied');
  narrator.command('server', 'picket server run --config server.yaml');
  await control.start();
  narrator.command('server', `picket audit access --decision-id ${decisionId}`);
  const page = await waitUntil(
    'the decision made meanwhile arrives',
    async () => {
      const args = ['audit', 'access', '--decision-id', decisionId];
      const found = await control.picketJson(accessPage, ...args);
      return found.items.length > 0 && found;
    },
    60_000,
  );
  narrator.expect(
    page.items[0]?.decision === 'deny',
    'the denial decided meanwhile is in the server’s record',
  );
}

function web(stage: Stage, method: string, path: string) {
  return {
    host: stage.desk.host,
    prompt: 'web@desk',
    uid: USERS.web,
    url: `http://${stage.store.host.ipv4}${path}`,
    ...(method === 'GET' ? {} : { method }),
  };
}

function invoicesUrl(stage: Stage): string {
  return `http://${stage.store.host.ipv4}/invoices`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
