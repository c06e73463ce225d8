import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { AttestedNode, NodeAttestor } from './node-attestor.ts';

/** An attestor with one host that it knows and that proves itself as it should. */
export interface AttestorUnderTest {
  readonly type: NodeAttestor['type'];
  /** The whole exchange, from the first message on. */
  readonly attest: () => Promise<AttestedNode>;
  readonly dispose: () => Promise<void>;
}

/** What every adapter of `NodeAttestor` promises. */
export function describeNodeAttestor(name: string, open: () => Promise<AttestorUnderTest>): void {
  describe(`NodeAttestor (${name})`, () => {
    let subject: AttestorUnderTest;
    let node: AttestedNode;
    beforeAll(async () => {
      subject = await open();
      node = await subject.attest();
    });
    afterAll(() => subject.dispose());

    test('names the node by one segment of a path', () => {
      const trustDomain = parseTrustDomain('example.org');
      const id = agentId(trustDomain, { attestationType: subject.type, name: node.name });
      expect(id.split('/')).toEqual([
        'spiffe:',
        '',
        'example.org',
        'picket',
        'agent',
        subject.type,
        node.name,
      ]);
    });

    test('gives selectors of its own type, each once', () => {
      expect(node.selectors.length).toBeGreaterThan(0);
      for (const selector of node.selectors) {
        expect(parseSelector(selector)).toBe(selector);
        expect(selector.startsWith(`${subject.type}:`)).toBe(true);
      }
      expect(new Set(node.selectors).size).toBe(node.selectors.length);
    });

    test('lets the host in again, as the same node, exactly when it says so', async () => {
      const again = await subject.attest().catch((error: unknown) => error);
      if (node.canReattest) expect(again).toEqual(node);
      else {
        expect(again).toBeInstanceOf(PicketError);
        expect(again).toMatchObject({ code: 'permission_denied' });
      }
    });
  });
}
