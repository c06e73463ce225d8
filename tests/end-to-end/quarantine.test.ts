import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage, nodePage, operatorActionPage } from '../../shared/protocol/operator.ts';
import { quarantine, quarantinePage } from '../../shared/protocol/quarantine.ts';
import { Child } from '../kit/child.ts';
import { OperatorClient } from '../kit/operator-client.ts';
import { asUser } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { SshServer } from '../kit/ssh.ts';
import { waitUntil } from '../kit/wait.ts';

/** One command cuts a workload, a host or a segment off, and another one lets it in again. */

setDefaultTimeout(60_000);

const { web, reports } = SHOP_USERS;
const WEB = 'spiffe://example.org/web';
const INVOICES = 'spiffe://example.org/invoices';
const SSH_PORT = 2222;
/** The policy allows it everything: it stands where the shop's stood. */
const OPEN_POLICY = 'package picket.authz\n\nallow := true\n\negress := true\n';
let shop: Shop;
let sshd: SshServer;

beforeAll(async () => {
  shop = await Shop.open();
  sshd = await SshServer.start(shop.desk.host, { folder: join(shop.folder, 'ssh'), port: SSH_PORT });
  // It looks for sshd when it starts.
  await shop.desk.stop();
  await shop.desk.start();
  await waitUntil('requests pass', async () => await passes(web));
}, 120_000);
afterAll(async () => {
  await sshd?.stop();
  await shop.close();
});
afterEach(async () => {
  const { items } = await shop.mesh.control.picketJson(quarantinePage, 'quarantine', 'list');
  for (const { kind, subject } of items) await lift(...subjectOf(kind, subject));
  await waitUntil('everything passes again', async () => (await passes(web)) && (await queries()));
});

const subjectOf = (kind: string, subject: string): string[] =>
  kind === 'workload' ? [subject] : [`--${kind}`, subject];
const passes = async (uid: number): Promise<boolean> => (await shop.ask(uid, '/invoices')).status === 200;
const queries = async (): Promise<boolean> => (await shop.query(reports)).exitCode === 0;

async function add(...args: readonly string[]): Promise<void> {
  await shop.mesh.control.picketOk('quarantine', 'add', ...args, '--reason', 'a test');
}

async function lift(...args: readonly string[]): Promise<void> {
  await shop.mesh.control.picketOk('quarantine', 'lift', ...args);
}

async function isQuarantined(uid: number): Promise<boolean> {
  return !(await passes(uid)) && (await shop.why(uid)).includes('"quarantined"');
}

async function deskNode(): Promise<string> {
  const { items } = await shop.mesh.control.picketJson(nodePage, 'node', 'list');
  const node = items.find(({ nodeId }) => nodeId.endsWith('/desk'));
  if (node === undefined) throw new Error('The desk is no node');
  return node.nodeId;
}

/** bash of a user on the desk that keeps a connection to PostgreSQL open without a word. */
function holdConnection(uid: number, name: string): Child {
  const script = `exec 3<>/dev/tcp/${shop.store.host.ipv4}/5432; printf '\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f' >&3; head -c 1 <&3; echo open; cat <&3`;
  return new Child({
    command: shop.desk.host.in(...asUser(uid, 'bash', '-c', script)),
    logFile: join(shop.folder, `${name}.log`),
    cwd: '/',
  });
}

describe('picket quarantine', () => {
  test('cuts what a workload has open, refuses what it asks, and says so everywhere', async () => {
    const id = 'spiffe://example.org/reports';
    const open = holdConnection(reports, 'open');
    await waitUntil('it is open', () => open.log().includes('open'));
    const denialsBefore = (await shop.desk.metric(DENIED)) ?? 0;
    await add(id);
    await waitUntil('it is cut', () => !open.isRunning);
    expect(open.log()).toContain('Connection reset by peer');
    // The other host may have cut it.
    await waitUntil('its own host knows', async () => (await shop.desk.metric('picket_quarantines')) === 1);
    expect(await queries()).toBe(false);
    expect(await shop.why(reports)).toContain('"quarantined"');
    expect(await passes(web)).toBe(true);

    const { control } = shop.mesh;
    await waitUntil('both stand in the record', async () => {
      const query = ['audit', 'access', '--caller', id, '--decision', 'deny'];
      const { items } = await control.picketJson(accessPage, ...query);
      return items.filter(({ reason }) => reason === 'quarantined').length >= 2;
    });
    expect((await shop.desk.metric(DENIED)) ?? 0).toBeGreaterThan(denialsBefore);
    expect((await shop.desk.examine()).faults).toContain(
      `agent quarantine warn: 1 workloads of this host are in quarantine: ${id}`,
    );
    const { items } = await control.picketJson(quarantinePage, 'quarantine', 'list');
    expect(items).toMatchObject([
      {
        kind: 'workload',
        subject: id,
        reason: 'a test',
        until: null,
        createdBy: 'local:uid:0',
        coveredEntries: 1,
      },
    ]);
    await lift(id);
    await waitUntil('queries pass again', async () => await queries());
    const { items: actions } = await control.picketJson(operatorActionPage, 'audit', 'operators');
    const ofQuarantine = actions.filter(({ action }) => action.startsWith('quarantine.'));
    expect(ofQuarantine.slice(0, 2)).toMatchObject([
      { action: 'quarantine.lift', actor: 'local:uid:0', subject: `workload ${id}`, outcome: 'done' },
      { action: 'quarantine.add', subject: `workload ${id}`, detail: { reason: 'a test' } },
    ]);
  });

  test('is lifted by no policy', async () => {
    await add(WEB);
    await waitUntil('it is in force', async () => await isQuarantined(web));
    const policy = join(shop.folder, 'open');
    mkdirSync(policy);
    writeFileSync(join(policy, 'policy.rego'), OPEN_POLICY);
    await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'everything');
    // It allows what the shop's does not.
    await waitUntil(
      'the policy is in force',
      async () => (await shop.ask(reports, '/invoices')).status === 200,
    );
    expect(await isQuarantined(web)).toBe(true);
    await shop.mesh.control.picketOk('policy', 'rollback', '1');
    await waitUntil('the policy is gone', async () => (await shop.ask(reports, '/invoices')).status === 403);
  });

  test('of a workload that is called holds it, and its host’s others not', async () => {
    await add(INVOICES);
    await waitUntil('nobody calls it', async () => await isQuarantined(web));
    expect(await queries()).toBe(true);
  });

  test('of a segment goes by whole path segments', async () => {
    await add('--segment', 'spiffe://example.org/we');
    await add('--segment', 'spiffe://example.org/reports');
    await waitUntil('the one is held', async () => !(await queries()));
    expect(await passes(web)).toBe(true);
    await add('--segment', 'spiffe://example.org');
    await waitUntil('all are held', async () => await isQuarantined(web));
  });

  test('of a node holds everything on it, and leaves operators their way in and the agent its server', async () => {
    const node = await deskNode();
    const shell = sshd.open(shop.outsider);
    expect(await shell.ask('echo before')).toBe('before\n');
    await add('--node', node);
    // The other host may be the first to refuse it.
    await waitUntil('it knows', async () => (await shop.desk.metric('picket_host_quarantined')) === 1);
    expect((await isQuarantined(web)) && !(await queries())).toBe(true);
    // Not even itself, or somebody outside of the mesh.
    const { stderr } = await asRoot(`exec 3<>/dev/tcp/${shop.outsider.ipv4}/9 && cat <&3`);
    expect(stderr).toContain('Connection reset by peer');
    expect((await shop.desk.examine()).faults).toContain(
      'agent quarantine fail: this host is in quarantine: nothing on it calls or is called',
    );
    expect(await shell.ask('echo after')).toBe('after\n');
    expect((await sshd.run(shop.outsider, 'echo again')).stdout).toBe('again\n');
    await shell.close();
    expect(await shop.desk.metric('picket_server_connected')).toBe(1);
  });

  test('ends by itself when it was given an end, by the server’s change', async () => {
    const { control } = shop.mesh;
    // Long enough for it to be seen in force by a busy machine.
    const args = ['quarantine', 'add', WEB, '--until', '20s', '--reason', 'a test'];
    const made = await control.picketJson(quarantine, ...args);
    const untilMs = Date.parse(made.until ?? '');
    await waitUntil('it is in force', async () => await isQuarantined(web));
    await waitUntil('it passes again', async () => await passes(web), 60_000);
    expect(Date.now()).toBeGreaterThanOrEqual(untilMs);
    const { items } = await control.picketJson(operatorActionPage, 'audit', 'operators');
    expect(items.find(({ action }) => action === 'quarantine.expire')).toMatchObject({
      actor: 'spiffe://example.org/picket/server',
      subject: `workload ${WEB}`,
    });
  });

  test('may be added and lifted by a registrar, and only read by an auditor', async () => {
    const { control } = shop.mesh;
    const clientOf = async (name: string, role: string): Promise<OperatorClient> =>
      await OperatorClient.create(control, { host: shop.outsider, name, roles: [role] });
    const [auditor, registrar] = [await clientOf('ann', 'auditor'), await clientOf('rob', 'registrar')];
    const command = ['quarantine', 'add', WEB, '--reason', 'a test'];
    expect((await auditor.picket(...command)).exitCode).toBe(3);
    expect(await passes(web)).toBe(true);
    await registrar.picketOk(...command);
    expect(await auditor.picketOk('quarantine', 'list')).toContain(
      'spiffe://example.org/picket/operator/rob',
    );
    expect((await auditor.picket('quarantine', 'lift', WEB)).exitCode).toBe(3);
    await registrar.picketOk('quarantine', 'lift', WEB);
  });

  test('says what is wrong with a subject, and warns of one that holds nobody', async () => {
    const { control } = shop.mesh;
    const told = async (...args: string[]) => {
      const { exitCode, stderr } = await control.picket('quarantine', 'add', ...args);
      return `${exitCode} ${stderr}`;
    };
    const reason = ['--reason', 'a test'];
    expect(await told(...reason)).toContain('2 error: Name one of these');
    expect(await told(WEB, '--segment', WEB, ...reason)).toContain('2 error: Name one of these');
    expect(await told('--node', WEB, ...reason)).toContain('the SPIFFE ID of an agent is expected');
    expect(await told(WEB)).toContain('--reason');
    expect(await told(WEB, '--reason', ' ')).toContain('say why');
    expect(await told('spiffe://example.org/wbe', ...reason)).toContain(
      'No workload is registered there now',
    );
    expect((await control.picket('quarantine', 'lift', WEB)).stderr).toContain('is not in quarantine');
  });
});

const DENIED =
  'picket_decisions_total{direction="outbound",protocol="tcp",decision="deny",reason="quarantined"}';

async function asRoot(script: string): Promise<{ readonly stderr: string }> {
  const child = Bun.spawn(shop.desk.host.in('bash', '-c', script), {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
    timeout: 10_000,
  });
  return { stderr: await new Response(child.stderr).text() };
}
