import { beforeEach, describe, expect, test } from 'bun:test';
import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { HeldQuarantine } from './quarantine.ts';
import type { End } from './quarantine-index.ts';

const id = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const OWN = id('/picket/agent/tpm/own');
const OTHER = id('/picket/agent/tpm/other');
const POSITION = { epoch: 'e', cursor: 1 };

type Told = ConstructorParameters<typeof HeldQuarantine>[0]['told']['current'];
let told: WatchedValue<Told>;
let ownNode: SpiffeId | undefined;
let quarantine: HeldQuarantine;

beforeEach(() => {
  told = new WatchedValue<Told>({ position: POSITION, quarantines: new Map() });
  ownNode = OWN;
  quarantine = new HeldQuarantine({ told, ownNode: () => ownNode });
});

function hold(...records: readonly Partial<QuarantineRecord>[]): void {
  const whole = records.map((record): QuarantineRecord => ({
    kind: 'workload',
    subject: id('/web'),
    reason: 'because of what nobody outside should know',
    addresses: [],
    serials: [],
    ...record,
  }));
  told.set({ position: POSITION, quarantines: new Map(whole.map((each, i) => [String(i), each])) });
}

function end(spiffeId: SpiffeId | null, change: Partial<End> = {}): End {
  return { spiffeId, address: '192.0.2.1', ...change };
}

/** Asked with an end as the caller, and as the target. */
function holds(one: End): boolean {
  const other = end(null, { address: '192.0.2.200' });
  const answers = [
    quarantine.findHold({ caller: one, target: other }),
    quarantine.findHold({ caller: other, target: one }),
  ];
  for (const answer of answers) expect(answer ?? '').not.toContain('because');
  const isHeld = answers.map((answer) => answer !== undefined);
  expect(isHeld[0]).toBe(isHeld[1]);
  return isHeld[0] === true;
}

describe('HeldQuarantine', () => {
  test('holds nobody when nothing is in force', () => {
    expect(holds(end(id('/web')))).toBe(false);
    expect(holds(end(null))).toBe(false);
  });

  test('holds a workload, on both sides, and nobody whose name begins alike', () => {
    hold({ subject: id('/ns/a') });
    expect(holds(end(id('/ns/a')))).toBe(true);
    for (const path of ['/ns/ab', '/ns/a/sa/x', '/ns', '/NS/a']) expect(holds(end(id(path)))).toBe(false);
    expect(holds(end(parseSpiffeId('spiffe://example.org.evil/ns/a')))).toBe(false);
    expect(holds(end(null))).toBe(false);
  });

  test('holds a segment by whole path segments', () => {
    hold({ kind: 'segment', subject: id('/ns/a') });
    for (const path of ['/ns/a', '/ns/a/sa/x', '/ns/a/b/c']) expect(holds(end(id(path)))).toBe(true);
    for (const path of ['/ns/ab', '/ns/ab/sa/x', '/ns', '/x/ns/a']) expect(holds(end(id(path)))).toBe(false);
    hold({ kind: 'segment', subject: id('') });
    expect(holds(end(id('/anything')))).toBe(true);
    expect(holds(end(parseSpiffeId('spiffe://other.org/anything')))).toBe(false);
  });

  test('holds another node by its addresses and by its certificates, and its identities on other hosts not', () => {
    hold({ kind: 'node', subject: OTHER, addresses: ['192.0.2.7', '2001:db8::7'], serials: ['0a'] });
    for (const address of ['192.0.2.7', '::ffff:192.0.2.7', '2001:DB8:0::7'])
      expect(holds(end(null, { address }))).toBe(true);
    expect(holds(end(id('/web'), { certificateSerial: '0a' }))).toBe(true);
    expect(holds(end(id('/web'), { certificateSerial: '0b' }))).toBe(false);
    expect(holds(end(id('/web')))).toBe(false);
    expect(quarantine.status).toMatchObject({ inForce: 1, isThisHost: false });
  });

  test('holds everything on this host when it is the node, and when it may be: its name is not known', () => {
    hold({ kind: 'node', subject: OWN });
    expect(holds(end(null, { address: '198.51.100.1' }))).toBe(true);
    expect(quarantine.holdsOwn(id('/web'))).toBe(true);
    expect(quarantine.status.isThisHost).toBe(true);
    hold({ kind: 'node', subject: OTHER });
    expect(holds(end(id('/web')))).toBe(false);
    ownNode = undefined;
    expect(holds(end(id('/web')))).toBe(true);
    hold({ subject: id('/other') });
    expect(holds(end(id('/web')))).toBe(false);
  });

  test('holds everybody as long as the server has told nothing', () => {
    told.set({ position: undefined, quarantines: new Map() });
    expect(holds(end(id('/web')))).toBe(true);
    expect(quarantine.holdsOwn(id('/web'))).toBe(true);
    told.set({ position: POSITION, quarantines: told.current.quarantines });
    expect(holds(end(id('/web')))).toBe(false);
  });

  test('tells of each change, after it counts, and forgets what it remembered', () => {
    const seen: boolean[] = [];
    quarantine.watch(() => seen.push(quarantine.holdsOwn(id('/web'))));
    hold({});
    told.set({ ...told.current, position: { epoch: 'e', cursor: 2 } });
    hold({ subject: id('/other') });
    hold({ kind: 'segment', subject: id('/web') });
    expect(seen).toEqual([true, false, true]);
    quarantine.stop();
    hold();
    expect(seen).toHaveLength(3);
  });
});
