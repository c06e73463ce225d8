import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAdmin } from '../../agent/admin/admin.ts';
import type { AgentState } from '../../agent/admin/status.ts';
import { NftCapture } from '../../agent/capture/nft.ts';
import { AGENT_CONFIG_EXAMPLE } from '../../agent/config/config-example.ts';
import { RecentDenials } from '../../agent/proxy/records/recent-denials.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { run, type RunResult } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';

setDefaultTimeout(60_000);

let network: TestNetwork;
let folder: string;
let socket: string;
let admin: Running | undefined;

beforeAll(async () => {
  network = await createTestNetwork(1);
});

afterAll(() => network.remove());

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-cli-'));
  socket = join(folder, 'admin.sock');
});

afterEach(async () => {
  await new NftCapture({ command: network.hosts[0]!.in('nft') }).remove();
  await admin?.stop();
  admin = undefined;
  rmSync(folder, { recursive: true });
});

/** The command line on the host of the test. */
async function picket(...args: string[]): Promise<RunResult> {
  const main = join(import.meta.dirname, '../main.ts');
  return await run(network.hosts[0]!.in(process.execPath, main, ...args), {
    env: { PICKET_AGENT_SOCKET: socket },
  });
}

const RECORD: AccessRecord = {
  decision_id: 'd-1',
  ts: '2026-11-24T10:00:00.000Z',
  direction: 'outbound',
  caller_spiffe_id: parseSpiffeId('spiffe://example.org/web'),
  target_spiffe_id: parseSpiffeId('spiffe://example.org/invoices'),
  source: '10.0.0.1:40000',
  destination: '10.0.0.2:80',
  protocol: 'http',
  method: 'POST',
  path: '/refunds',
  decision: 'deny',
  reason: 'policy_deny',
  message: 'no rule of the policy allows it',
  policy_version: 3,
  latency_us: 12,
};

async function startAgent(change: Partial<AgentState> = {}): Promise<RecentDenials> {
  const denials = new RecentDenials();
  const state = startingAgentState(change);
  admin = await startAdmin({
    path: socket,
    clock: systemClock,
    state,
    denials,
    capture: { show: () => Promise.resolve('') },
    agentUid: 0,
    log: createLog({ level: 'error', nowMs: () => 0, write: () => undefined }),
  });
  return denials;
}

function writeConfig(): string {
  const path = join(folder, 'agent.yaml');
  writeFileSync(path, AGENT_CONFIG_EXAMPLE.replace('/var/lib/picket/agent', folder));
  return path;
}

describe('picket why', () => {
  test('picket why tells when, who, what, why, the decision and who decided', async () => {
    const denials = await startAgent();
    denials.note({
      record: { ...RECORD, reason: 'egress_deny', decision_id: 'd-0' },
      isTold: false,
      uid: 0,
      pid: 1,
    });
    denials.note({ record: RECORD, isTold: true, uid: 0, pid: 1 });
    const { stdout, exitCode } = await picket('why', '--last', '1');
    expect(exitCode).toBe(0);
    for (const part of [
      RECORD.ts,
      'spiffe://example.org/web',
      'POST /refunds at 10.0.0.2:80 (spiffe://example.org/invoices)',
      'policy_deny',
      'no rule of the policy allows it',
      'the other host',
      'd-1',
    ])
      expect(stdout).toContain(part);
    expect(stdout).not.toContain('d-0');
    expect((await picket('why')).stdout).toContain('this host');
  });

  test('picket why --json gives the records, and says so where there are none', async () => {
    const denials = await startAgent();
    expect((await picket('why')).stdout).toStartWith('Nothing of yours was refused');
    denials.note({ record: RECORD, isTold: true, uid: 0, pid: 1 });
    const { stdout } = await picket('why', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ denials: [{ record: RECORD, isTold: true, uid: 0, pid: 1 }] });
  });

  test('picket why ends with 6 when there is no agent and with 2 for --last 0', async () => {
    const unreachable = await picket('why');
    expect(unreachable.exitCode).toBe(6);
    expect(unreachable.stderr).toContain(socket);
    expect((await picket('why', '--last', '0')).exitCode).toBe(2);
  });
});

describe('picket agent', () => {
  test('picket agent status says what is missing', async () => {
    await startAgent();
    const { stdout } = await picket('agent', 'status');
    expect(stdout).toContain('no: the host has not attested yet');
    expect(stdout).toContain('none: everything is denied');
    expect(JSON.parse((await picket('agent', 'status', '--json')).stdout)).toMatchObject({ agent: null });
  });

  test('picket agent config-example is a configuration that picket agent check-config takes', async () => {
    const { stdout } = await picket('agent', 'config-example');
    const path = join(folder, 'printed.yaml');
    writeFileSync(path, stdout);
    const checked = await picket('agent', 'check-config', '--config', path, '--json');
    expect(JSON.parse(checked.stdout)).toEqual({ config: path, trustDomain: 'example.org', ok: true });
  });

  test('picket agent check-config lets the environment go over the file', async () => {
    const check = async (value: string): Promise<RunResult> =>
      await run(
        [
          process.execPath,
          join(import.meta.dirname, '../main.ts'),
          'agent',
          'check-config',
          '--config',
          writeConfig(),
        ],
        {
          env: { PICKET_AGENT__CAPTURE__ENABLED: value },
        },
      );
    expect((await check('false')).exitCode).toBe(0);
    const refused = await check('7');
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain('capture.enabled');
  });

  test('picket agent check-config names every setting that is wrong', async () => {
    const path = join(folder, 'wrong.yaml');
    writeFileSync(path, 'trust_domain: EXAMPLE\nservers: []\ntypo: 1\n');
    const { exitCode, stderr } = await picket('agent', 'check-config', '--config', path);
    expect(exitCode).toBe(2);
    for (const setting of ['trust_domain', 'servers', 'trust', 'attestation', 'typo'])
      expect(stderr).toContain(setting);
    writeFileSync(path, '- [');
    expect((await picket('agent', 'check-config', '--config', path)).stderr).toContain('not YAML');
    expect((await picket('agent', 'check-config', '--config', join(folder, 'no.yaml'))).exitCode).toBe(2);
  });
});

describe('picket agent capture', () => {
  const show = async (): Promise<string> => (await picket('agent', 'capture', 'show')).stdout;

  test('picket agent capture works without an agent: apply, show and remove', async () => {
    expect(await show()).toStartWith('No capture rules');
    const config = writeConfig();
    expect(await picket('agent', 'capture', 'apply', '--config', config)).toMatchObject({ exitCode: 0 });
    expect(await show()).toContain('15001');
    expect(readFileSync(join(folder, 'capture.nft'), 'utf8')).toContain('15001');
    await picket('agent', 'capture', 'remove', '--config', config);
    expect(await show()).toStartWith('No capture rules');
    expect(existsSync(join(folder, 'capture.nft'))).toBe(false);
  });

  test('picket agent capture apply --confirm-within undoes itself after the command has ended', async () => {
    const args = ['--config', writeConfig(), '--confirm-within', '6s'];
    const { stdout, exitCode } = await picket('agent', 'capture', 'apply', ...args);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('picket agent capture confirm');
    expect(await show()).toContain('15001');
    await waitUntil('the rules are undone', async () => (await show()).startsWith('No capture rules'));
    const late = await picket('agent', 'capture', 'confirm', '--config', join(folder, 'agent.yaml'));
    expect(late.exitCode).toBe(5);
  });

  test('picket agent capture confirm keeps what is being tried', async () => {
    const config = writeConfig();
    await picket('agent', 'capture', 'apply', '--config', config, '--confirm-within', '20s');
    expect((await picket('agent', 'capture', 'confirm', '--config', config)).exitCode).toBe(0);
    expect(readFileSync(join(folder, 'capture.nft'), 'utf8')).toContain('15001');
    expect(await show()).toContain('15001');
  });

  test('picket agent capture refuses what a running agent would undo', async () => {
    await startAgent({
      capture: () => ({
        backend: 'nftables',
        isIntact: true,
        repairs: 0,
        isWatched: true,
        isContested: false,
        transparentPorts: { steered: [], leftAlone: [] },
      }),
    });
    for (const verb of ['apply', 'remove']) {
      const { exitCode, stderr } = await picket('agent', 'capture', verb, '--config', writeConfig());
      expect([verb, exitCode]).toEqual([verb, 5]);
      expect(stderr).toContain('the agent runs and keeps them');
    }
  });

  test('picket agent capture apply captures the listeners that a running agent knows', async () => {
    await startAgent({ localPorts: () => [8081] });
    await picket('agent', 'capture', 'apply', '--config', writeConfig());
    expect(await show()).toContain('8081');
  });
});
