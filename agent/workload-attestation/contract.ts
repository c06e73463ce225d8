import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { readProcessFacts } from './process-facts.ts';
import type { ProcessReference, WorkloadAttestor } from './workload-attestor.ts';

/** What every adapter of `WorkloadAttestor` promises. `start` gives an attestor and a process of which it has something to say. */
export function describeWorkloadAttestor(
  name: string,
  start: () => Promise<{
    readonly attestor: WorkloadAttestor;
    readonly process: ProcessReference;
    readonly end: () => Promise<void>;
  }>,
): void {
  describe(`WorkloadAttestor (${name})`, () => {
    let attestor: WorkloadAttestor;
    let process: ProcessReference;
    let end: () => Promise<void>;
    beforeAll(async () => {
      ({ attestor, process, end } = await start());
    });
    afterAll(() => end());

    test('attest() says something, in selectors of its own type, the same each time and each once', async () => {
      const selectors = await attestor.attest(process);
      expect(selectors.length).toBeGreaterThan(0);
      for (const selector of selectors) expect(parseSelector(selector)).toBe(selector);
      expect(selectors.filter((selector) => !selector.startsWith(`${attestor.type}:`))).toEqual([]);
      expect(new Set(selectors).size).toBe(selectors.length);
      expect(await attestor.attest(process)).toEqual(selectors);
    });

    test('attest() refuses a pid that has come to another process', async () => {
      const earlier = { pid: process.pid, startTime: process.startTime - 1n };
      expect(await refusalOf(attestor.attest(earlier))).toMatchObject({
        code: 'not_found',
        reason: 'process_gone',
      });
    });

    test('attest() refuses a process that has ended', async () => {
      await end();
      expect(readProcessFacts(process.pid)?.startTime).not.toBe(process.startTime);
      expect((await refusalOf(attestor.attest(process))).reason).toBe('process_gone');
    });
  });
}
