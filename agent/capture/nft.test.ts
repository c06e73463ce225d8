import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runOk } from '../../tests/kit/child.ts';
import { createTestNetwork, type TestHost, type TestNetwork } from '../../tests/kit/netns.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { describeCapture, SAMPLE_SETTINGS } from './contract.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { openTableJournal, readRulesetGeneration } from '../native/nftables.ts';
import { NFT_TABLE_NAME } from './nft-rules.ts';
import { NftCapture } from './nft.ts';

let folder: string;
let network: TestNetwork;
let host: TestHost;
let capture: NftCapture;

beforeAll(async () => {
  network = await createTestNetwork(1);
  host = network.hosts[0]!;
  folder = mkdtempSync(join(tmpdir(), 'picket-nft-'));
});

beforeEach(async () => {
  capture = new NftCapture({ command: host.in('nft') });
  await capture.remove();
});

afterAll(async () => {
  rmSync(folder, { recursive: true });
  await network.remove();
});

describeCapture('NftCapture', () =>
  Promise.resolve({
    capture: new NftCapture({ command: host.in('nft') }),
    remove: () => capture.remove(),
  }),
);

test('NftCapture.isIntact() notices a flush, a rule more and a rule less', async () => {
  const disturbances = [
    ['flush', 'ruleset'],
    ['insert', 'rule', 'inet', 'picket', 'guard_output', 'accept'],
    ['flush', 'chain', 'inet', 'picket', 'guard_input'],
  ];
  for (const disturbance of disturbances) {
    await capture.apply(SAMPLE_SETTINGS);
    await host.runOk('nft', ...disturbance);
    expect(await capture.isIntact()).toBe(false);
  }
});

test('NftCapture.isIntact() does not mind counters', async () => {
  await capture.apply(SAMPLE_SETTINGS);
  await runOk(host.in('sh', '-c', 'nc -z -w1 192.0.2.99 9 || true'));
  expect(await capture.isIntact()).toBe(true);
});

test('NftCapture.remove() leaves the tables of others alone', async () => {
  await host.runOk('nft', 'add', 'table', 'inet', 'mine');
  await capture.apply(SAMPLE_SETTINGS);
  await capture.remove();
  expect((await host.runOk('nft', 'list', 'tables')).trim()).toBe('table inet mine');
  await host.runOk('nft', 'delete', 'table', 'inet', 'mine');
});

test('NftCapture.apply() keeps the rules for the next boot, and remove() takes them away', async () => {
  const rulesFile = join(folder, 'rules.nft');
  const kept = new NftCapture({ command: host.in('nft'), rulesFile });
  await kept.apply(SAMPLE_SETTINGS);
  const applied = await kept.show();
  await host.runOk('nft', 'flush', 'ruleset');
  await host.runOk('nft', '-f', rulesFile);
  expect(await kept.show()).toBe(applied);
  expect(readFileSync(rulesFile, 'utf8')).toContain('delete table inet picket');
  await kept.remove();
  expect(existsSync(rulesFile)).toBe(false);
});

test('NftCapture says that nft is missing', async () => {
  const missing = new NftCapture({ command: ['/nonexistent/nft'] });
  expect(await failureOf(missing.apply(SAMPLE_SETTINGS))).toMatchObject({
    code: 'failed_precondition',
    reason: 'nft_missing',
    message: 'Cannot run /nonexistent/nft: is the package nftables installed?',
  });
});

test('NftCapture passes on what nft says', async () => {
  const broken = new NftCapture({ command: ['sh', '-c', 'echo "Operation not permitted" >&2; exit 1'] });
  expect(await failureOf(broken.apply(SAMPLE_SETTINGS))).toMatchObject({
    code: 'failed_precondition',
    reason: 'nft_refused',
    message: 'Cannot load the capture rules: nft ended with 1: Operation not permitted',
  });
});

test('NftCapture gives up on an nft that does not end', async () => {
  const stuck = new NftCapture({ command: ['sh', '-c', 'exec sleep 60'], timeLimitMs: 100 });
  expect(await failureOf(stuck.show())).toMatchObject({
    code: 'failed_precondition',
    reason: 'nft_timed_out',
  });
});

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Does something else right before the rules are read back, as many times as `counter` has lines left. */
function interrupted(work: string, times: number): NftCapture {
  const counter = join(folder, `times-${crypto.randomUUID()}`);
  writeFileSync(counter, '\n'.repeat(times));
  const before = `case "$*" in *'list table'*) if [ -s "$0" ]; then sed -i 1d "$0"; ${work}; fi;; esac`;
  return new NftCapture({
    command: host.in('sh', '-c', `${before}; exec nft "$@"`, counter),
    openJournal: () => {
      using namespace = NetworkNamespace.open('host', `/run/netns/${host.name}`);
      return openTableJournal({ table: NFT_TABLE_NAME, namespace });
    },
  });
}

test('NftCapture.apply() does not take for its own what somebody changed before the rules were read back', async () => {
  const opening = 'nft insert rule inet picket guard_input accept';
  const once = interrupted(opening, 1);
  await once.apply(SAMPLE_SETTINGS);
  expect(await once.show()).toContain('drop');
  expect(await host.runOk('nft', 'list', 'chain', 'inet', 'picket', 'guard_input')).not.toMatch(
    /^\s+accept$/m,
  );
  expect(await once.isIntact()).toBe(true);
  const again = interrupted(opening, 5);
  expect((await refusalOf(again.apply(SAMPLE_SETTINGS))).reason).toBe('nft_contested');
  expect(await again.isIntact()).toBe(false);
});

test('NftCapture.apply() is not kept from it by who fills and empties sets of the rules, or changes other tables', async () => {
  const flow = '{ 10.0.0.1 . 1 . 10.0.0.2 . 2 }';
  const other = 'nft add table inet other; nft delete table inet other';
  const busy = interrupted(`nft add element inet picket udp_answers_ip '${flow}'; ${other}`, 5);
  await busy.apply({ ...SAMPLE_SETTINGS, decidesUdp: true });
  expect(await busy.isIntact()).toBe(true);
});

test('NftCapture.isIntact() runs nft only where there was a transaction since it looked', async () => {
  using namespace = NetworkNamespace.open('host', `/run/netns/${host.name}`);
  const runs = join(folder, 'runs');
  const counted = new NftCapture({
    command: ['sh', '-c', 'echo >>"$0"; exec "$@"', runs, ...host.in('nft')],
    readGeneration: () => readRulesetGeneration({ namespace }),
  });
  const countRuns = (): number => readFileSync(runs, 'utf8').length;
  await counted.apply(SAMPLE_SETTINGS);
  expect(await counted.isIntact()).toBe(true);
  const before = countRuns();
  expect([await counted.isIntact(), countRuns()]).toEqual([true, before]);
  // Of somebody else, and nothing of ours.
  await host.runOk('nft', 'add', 'table', 'inet', 'mine');
  expect([await counted.isIntact(), countRuns()]).toEqual([true, before + 1]);
  await host.runOk('nft', 'flush', 'ruleset');
  expect([await counted.isIntact(), await counted.isIntact()]).toEqual([false, false]);
  await counted.apply(SAMPLE_SETTINGS);
  expect(await counted.isIntact()).toBe(true);
  await counted.remove();
  expect(await counted.isIntact()).toBe(false);
});
