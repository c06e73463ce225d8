import { describe, expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { KeptReturnRoutes, type ReturnPath } from './kept-return-routes.ts';

/** A kernel with one rule: `hindrance` where something of others' is in its way, `failure` where it refuses. */
class OneRule implements ReturnPath {
  isThere = false;
  hindrance: 'absent' | 'table_taken' | undefined;
  failure: string | undefined;
  removalFailure: string | undefined;
  installations = 0;
  removals = 0;

  look(): ReturnType<ReturnPath['look']> {
    return this.hindrance ?? (this.isThere ? 'in_force' : 'absent');
  }

  install(): void {
    if (this.failure !== undefined) throw new PicketError('unavailable', 'return_routes', this.failure);
    this.installations += 1;
    this.isThere = true;
  }

  remove(): void {
    if (this.removalFailure !== undefined)
      throw new PicketError('unavailable', 'return_routes', this.removalFailure);
    this.removals += 1;
    this.isThere = false;
  }
}

function rig() {
  const rule = new OneRule();
  const lines: string[] = [];
  const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => void lines.push(line) });
  return { rule, lines, kept: new KeptReturnRoutes(rule, log) };
}

describe('KeptReturnRoutes', () => {
  test('has nothing there and tells nothing where nobody asks, and takes away what an earlier agent left', () => {
    const { rule, kept } = rig();
    rule.isThere = true;
    kept.keep(false);
    kept.keep(false);
    expect([rule.isThere, rule.removals, kept.status]).toEqual([false, 1, undefined]);
  });

  test('installs it where it is asked for, and takes it away with the last listener', () => {
    const { rule, kept, lines } = rig();
    kept.keep(true);
    expect([rule.isThere, kept.status]).toEqual([true, { isInForce: true, repairs: 0 }]);
    kept.keep(false);
    kept.keep(true);
    kept.keep(false);
    expect([rule.isThere, rule.removals, kept.status, lines]).toEqual([false, 2, undefined, []]);
  });

  test('puts back what somebody took away, counts it and says so', () => {
    const { rule, kept, lines } = rig();
    kept.keep(true);
    rule.isThere = false;
    kept.keep(true);
    kept.keep(true);
    expect([rule.isThere, kept.status]).toEqual([true, { isInForce: true, repairs: 1 }]);
    expect(lines.filter((line) => line.includes('return_routes_changed'))).toHaveLength(1);
  });

  test('tells once why it cannot, tries again, and forgets it when it can', () => {
    const { rule, kept, lines } = rig();
    rule.failure = 'EPERM';
    kept.keep(true);
    kept.keep(true);
    expect(kept.status).toEqual({ isInForce: false, repairs: 0, failure: 'EPERM' });
    expect(lines.filter((line) => line.includes('return_routes_failed'))).toHaveLength(1);
    rule.failure = undefined;
    kept.keep(true);
    expect(kept.status).toEqual({ isInForce: true, repairs: 0 });
  });

  test('installs once where an earlier agent left it in force, since that may have left another number’s too', () => {
    const { rule, kept, lines } = rig();
    rule.isThere = true;
    kept.keep(true);
    kept.keep(true);
    expect([rule.installations, kept.status, lines]).toEqual([1, { isInForce: true, repairs: 0 }, []]);
  });

  test.each([
    ['absent', 'before ours'],
    ['table_taken', 'capture.transparent_id'],
  ] as const)('counts nothing as in force that is %s, and says what to look at', (hindrance, said) => {
    const { rule, kept } = rig();
    rule.hindrance = hindrance;
    kept.keep(true);
    expect(kept.status?.isInForce).toBe(false);
    expect(kept.status?.failure).toContain(said);
  });

  test('tells what it cannot take away, tries again, and shows nothing that nobody asks for', () => {
    const { rule, kept, lines } = rig();
    rule.removalFailure = 'EPERM';
    kept.keep(false);
    kept.keep(false);
    expect([kept.status, rule.removals]).toEqual([undefined, 0]);
    expect(lines).toHaveLength(1);
    rule.removalFailure = undefined;
    kept.keep(false);
    expect(rule.removals).toBe(1);
  });
});
