import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { createBpfPlace } from '../kit/bpf-place.ts';
import { run } from '../kit/child.ts';
import { createMesh, type Mesh } from '../kit/mesh.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';
import { picketBinary } from '../kit/picket-binary.ts';
import { curl, startNginx } from '../kit/programs.ts';
import { SshServer, type SshSession } from '../kit/ssh.ts';
import { waitUntil } from '../kit/wait.ts';

/** The first minutes of Picket on a host that one is logged in to by SSH: rules on trial, undone, confirmed, kept. The tests follow each other. */

setDefaultTimeout(60_000);

/** No default of anything: it must be found. */
const SSH_PORT = 2222;
/** Several logins fit into the one, and a confirmation into the other, on a busy machine too. */
const TRIAL = { ofLogins: '15s', ofConfirmation: '10s' };
const applied = z.object({ applied: z.literal(true), undoneAt: z.iso.datetime() });

describe.each(['nftables', 'ebpf'] as const)('capture by %s', (backend) => {
  let folder: string;
  let mesh: Mesh;
  let agent: MeshHost;
  let here: TestHost;
  let elsewhere: TestHost;
  let sshd: SshServer;
  /** A login that is older than any rule. */
  let session: SshSession;
  let stack: AsyncDisposableStack;
  let settings: Readonly<Record<string, unknown>>;

  beforeAll(async () => {
    stack = new AsyncDisposableStack();
    folder = mkdtempSync(join(tmpdir(), 'picket-trial-'));
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    mesh = await createMesh({ folder: join(folder, 'mesh'), trustDomain: 'example.org', hosts: 3 });
    stack.defer(async () => await mesh.remove());
    [, here, elsewhere] = mesh.network.hosts as [TestHost, TestHost, TestHost];
    settings = {};
    if (backend === 'ebpf') {
      const place = await createBpfPlace(here);
      stack.defer(async () => await place.remove());
      ({ host: here, settings } = place);
    }
    const locations = 'location / { return 200; }';
    const nginx = await startNginx(elsewhere, { folder: join(folder, 'nginx'), locations });
    stack.defer(async () => void (await nginx.stop()));
    sshd = await SshServer.start(here, { folder: join(folder, 'ssh'), port: SSH_PORT });
    stack.defer(async () => await sshd.stop());
    session = sshd.open(elsewhere);
    stack.defer(async () => await session.close());
    agent = await mesh.joinHost(here, 'desk', { capture: { enabled: false, ...settings } });
  }, 120_000);
  afterAll(async () => await stack.disposeAsync());

  /** `picket agent capture` as an operator on the host types it. */
  function command(verb: string, ...options: readonly string[]): string {
    const socket = `PICKET_AGENT_SOCKET=${join(agent.folder, 'admin.sock')}`;
    return [socket, picketBinary(), 'agent capture', verb, '--config', agent.configFile, ...options].join(
      ' ',
    );
  }

  /** Whether the host's programs reach others as if Picket were not there. */
  async function isFree(): Promise<boolean> {
    return (await curl(here, { uid: 7001, args: [`http://${elsewhere.ipv4}/`] })).status === 200;
  }

  async function expectLoginsPossible(): Promise<void> {
    expect(await session.ask('echo $((6 * 7))')).toBe('42\n');
    const families = ['ipv4', 'ipv6'] as const;
    const logins = families.map(async (family) => await sshd.run(elsewhere, 'echo welcome', family));
    for (const login of await Promise.all(logins))
      expect(login).toMatchObject({ exitCode: 0, stdout: 'welcome\n' });
  }

  async function tryRules(duration: string): Promise<number> {
    const answer = await session.ask(command('apply', '--confirm-within', duration, '--json'));
    return Date.parse(applied.parse(JSON.parse(answer)).undoneAt);
  }

  test('an agent that is told not to capture leaves the host as it is', async () => {
    expect(await agent.picketOk('agent', 'capture', 'show')).not.toContain('table');
    expect(await isFree()).toBe(true);
    await expectLoginsPossible();
  });

  test('rules on trial capture, keep SSH sessions old and new, and undo themselves when nobody confirms', async () => {
    const undoneAtMs = await tryRules(TRIAL.ofLogins);
    expect(await isFree()).toBe(false);
    await expectLoginsPossible();
    expect(Date.now()).toBeLessThan(undoneAtMs);
    await waitUntil('the agent was asked', async () =>
      (await agent.picketOk('why', '--json')).includes(`${elsewhere.ipv4}:80`),
    );
    await waitUntil('they are undone', isFree);
    expect(Date.now()).toBeGreaterThanOrEqual(undoneAtMs - 1000);
    expect((await sshd.run(elsewhere, command('confirm'))).stderr).toContain('No capture rules wait');
  });

  test('rules that a new session confirms stay, also after the next boot', async () => {
    const undoneAtMs = await tryRules(TRIAL.ofConfirmation);
    const confirmed = await sshd.run(elsewhere, command('confirm'));
    expect(confirmed).toMatchObject({ exitCode: 0, stderr: '' });
    await waitUntil('the trial would have ended', () => Date.now() > undoneAtMs + 1000);
    expect(await isFree()).toBe(false);
    await expectLoginsPossible();
    const rules = await agent.picketOk('agent', 'capture', 'show');
    await here.runOk('nft', 'flush', 'ruleset');
    await here.runOk('nft', '-f', join(agent.folder, 'data/capture.nft'));
    expect(await agent.picketOk('agent', 'capture', 'show')).toBe(rules);
    await expectLoginsPossible();
  });

  test('an agent that keeps the rules leaves SSH alone by itself, and no trial is begun beside it', async () => {
    await agent.stop();
    const keeper = await mesh.joinHost(here, 'keeper', { capture: settings });
    expect(await isFree()).toBe(false);
    await expectLoginsPossible();
    const socket = { PICKET_AGENT_SOCKET: join(keeper.folder, 'admin.sock') };
    const apply = ['agent', 'capture', 'apply', '--config', keeper.configFile, '--confirm-within', '60s'];
    const refused = await run(here.in(picketBinary(), ...apply), { env: socket });
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain('the agent runs and keeps them');
  });
});
