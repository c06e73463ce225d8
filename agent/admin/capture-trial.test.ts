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
import { systemClock } from '../../shared/runtime/clock.ts';
import { createTestNetwork, type TestNetwork } from '../../tests/kit/netns.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { SAMPLE_SETTINGS } from '../capture/contract.ts';
import { NftCapture } from '../capture/nft.ts';
import { CaptureTrial } from './capture-trial.ts';

setDefaultTimeout(60_000);

/** Of a trial whose end is waited for; what is to be seen before that takes some processes. */
const SECONDS = 5;
/** Of one that nobody waits for. */
const LONG_SECONDS = 60;

let network: TestNetwork;
let folder: string;
let rulesFile: string;
let capture: NftCapture;
let trial: CaptureTrial;

beforeAll(async () => {
  network = await createTestNetwork(1);
});

afterAll(() => network.remove());

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-trial-'));
  rulesFile = join(folder, 'capture.nft');
  capture = new NftCapture({ command: network.hosts[0]!.in('nft'), rulesFile });
  trial = new CaptureTrial({ capture, folder, clock: systemClock });
});

afterEach(async () => {
  await capture.remove();
  rmSync(folder, { recursive: true });
});

const pending = (): string => join(folder, 'capture-trial.nft');

describe('CaptureTrial', () => {
  test('begin() applies the rules and takes them away again when nobody confirms', async () => {
    const untilMs = await trial.begin(SAMPLE_SETTINGS, SECONDS);
    expect(untilMs).toBeGreaterThan(Date.now());
    expect(await capture.show()).toContain('15001');
    await waitUntil('the rules are gone', async () => (await capture.show()) === '');
    expect(existsSync(rulesFile)).toBe(false);
    expect((await refusalOf(trial.confirm())).reason).toBe('capture_trial_missing');
  });

  test('begin() brings back the rules that were there before', async () => {
    await capture.apply({ ...SAMPLE_SETTINGS, localPorts: [8081] });
    const before = await capture.show();
    await trial.begin({ ...SAMPLE_SETTINGS, localPorts: [9091] }, SECONDS);
    expect(await capture.show()).toContain('9091');
    await waitUntil('the old rules are back', async () => (await capture.show()) === before);
    expect(readFileSync(rulesFile, 'utf8')).not.toContain('9091');
  });

  test('confirm() keeps the rules, for the next boot as well', async () => {
    const untilMs = await trial.begin(SAMPLE_SETTINGS, SECONDS);
    expect(existsSync(rulesFile)).toBe(false);
    await trial.confirm();
    expect(readFileSync(rulesFile, 'utf8')).toContain('15001');
    expect(existsSync(pending())).toBe(false);
    // The guard wakes up and finds nothing to undo.
    await waitUntil('the guard has woken up', () => Date.now() > untilMs + 1000);
    expect(await capture.show()).toContain('15001');
  });

  test('begin() refuses while another trial waits, and not for one whose guard died', async () => {
    await trial.begin(SAMPLE_SETTINGS, LONG_SECONDS);
    expect(await refusalOf(trial.begin(SAMPLE_SETTINGS, LONG_SECONDS))).toMatchObject({
      code: 'failed_precondition',
      reason: 'capture_trial_pending',
    });
    await trial.confirm();
    writeFileSync(pending(), `# until ${Date.now() - 60_000}\n`);
    await trial.begin(SAMPLE_SETTINGS, LONG_SECONDS);
    await trial.confirm();
  });

  test('begin() is not undone by the guard of a trial before it', async () => {
    const untilMs = await trial.begin(SAMPLE_SETTINGS, SECONDS);
    await trial.confirm();
    await trial.begin({ ...SAMPLE_SETTINGS, localPorts: [9091] }, LONG_SECONDS);
    await waitUntil('the first guard has woken up', () => Date.now() > untilMs + 1000);
    expect(await capture.show()).toContain('9091');
    await trial.confirm();
  });

  test('begin() leaves nothing waiting when the rules are refused', async () => {
    expect((await refusalOf(trial.begin({ ...SAMPLE_SETTINGS, localPorts: [0] }, 1))).reason).toBe(
      'capture_settings_invalid',
    );
    expect(existsSync(pending())).toBe(false);
    expect(await capture.show()).toBe('');
  });

  test.each([0, -1, 3601])('begin() refuses to try rules for %i seconds', async (seconds) => {
    expect((await refusalOf(trial.begin(SAMPLE_SETTINGS, seconds))).reason).toBe('trial_length_invalid');
  });
});
