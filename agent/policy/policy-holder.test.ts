import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { TestPolicySigner, verifyTestPolicy, type TestPolicy } from '../../tests/kit/policy-rig.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { MemoryStore } from '../key-store/memory.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';
import { PolicyHolder, type PolicyHolderOptions } from './policy-holder.ts';

const signer = new TestPolicySigner();
const get = signer.publish({ condition: 'input.request.method == "GET"' }, 10);
const post = signer.publish({ condition: 'input.request.method == "POST"' }, 11);

/** A holder, and what it did. */
class Rig {
  readonly clock = new FakeClock();
  readonly store: SealedStore;
  readonly artifacts = new Map<string, Uint8Array>();
  readonly lines: string[] = [];
  readonly refusals: string[] = [];
  unkept = 0;
  readonly fetched: string[] = [];
  readonly holder: PolicyHolder;

  constructor(change: Partial<PolicyHolderOptions> = {}) {
    this.store = change.store ?? new MemoryStore();
    this.holder = new PolicyHolder({
      trustDomain: signer.trustDomain,
      bundle: () => signer.bundle,
      verifySignature: verifyTestPolicy,
      loader: createOpaWasmLoader(),
      fetchArtifact: async (digest) => await this.#fetch(digest),
      store: this.store,
      clock: this.clock,
      random: () => 0.5,
      log: createLog({ level: 'info', nowMs: () => 0, write: (line) => this.lines.push(line) }),
      observer: {
        inForce: () => {},
        refused: (reason) => this.refusals.push(reason),
        unkept: () => (this.unkept += 1),
      },
      ...change,
    });
  }

  async offer(policy: TestPolicy): Promise<string> {
    this.artifacts.set(policy.statement.digest, policy.artifact);
    return await this.holder.offer(policy.signed);
  }

  /** The method that the policy in force allows, or none. */
  get allowed(): string | undefined {
    const policy = this.holder.policy.current;
    return ['GET', 'POST', 'PUT'].find(
      (method) => policy?.engine.evaluate('picket/authz/allow', { request: { method } }, 0) === true,
    );
  }

  async #fetch(digest: string): Promise<Uint8Array> {
    this.fetched.push(digest);
    const artifact = this.artifacts.get(digest);
    if (artifact === undefined)
      throw new PicketError('unavailable', 'server_unreachable', 'No server answers');
    return artifact;
  }
}

describe('PolicyHolder.offer()', () => {
  test('puts a policy in force, and a newer one in its place, in one step', async () => {
    const rig = new Rig();
    const seen: (number | undefined)[] = [];
    rig.holder.policy.watch((policy) => seen.push(policy?.statement.sequence));
    expect(rig.allowed).toBeUndefined();
    expect(await rig.offer(get)).toBe('in_force');
    expect(rig.allowed).toBe('GET');
    expect(await rig.offer(post)).toBe('in_force');
    expect(rig.allowed).toBe('POST');
    expect(seen).toEqual([10, 11]);
    expect(rig.holder.highestSequence).toBe(11);
  });

  test('takes a roll-back: old content under a higher sequence', async () => {
    const rig = new Rig();
    await rig.offer(get);
    await rig.offer(post);
    const back = signer.publish({ condition: 'input.request.method == "GET"', change: { version: 10 } }, 12);
    expect(await rig.offer(back)).toBe('in_force');
    expect(rig.allowed).toBe('GET');
  });

  test('puts a policy in force that the disk does not take, and keeps it once the disk does', async () => {
    const disk = new MemoryStore();
    let isFull = true;
    const write = async (name: string, value: Uint8Array): Promise<void> => {
      if (isFull) throw new PicketError('unavailable', 'state_not_written', 'The disk is full');
      await disk.write(name, value);
    };
    const store: SealedStore = {
      read: async (name) => await disk.read(name),
      delete: async (name) => await disk.delete(name),
      write,
    };
    const rig = new Rig({ store });
    expect(await rig.offer(get)).toBe('in_force');
    expect([rig.allowed, rig.holder.highestSequence]).toEqual(['GET', 10]);
    expect(rig.lines.join('')).toContain('"policy_not_kept"');
    expect(rig.unkept).toBeGreaterThan(0);
    expect(await new Rig({ store }).holder.restore()).toBe('unchanged');
    isFull = false;
    rig.clock.advance(60_000);
    await waitUntil('it is kept', async () => (await new Rig({ store }).holder.restore()) === 'in_force');
    expect(rig.clock.pending).toBe(0);
  });

  test('does nothing for the policy that is in force', async () => {
    const rig = new Rig();
    await rig.offer(get);
    expect(await rig.offer(get)).toBe('unchanged');
    expect(rig.fetched.length).toBe(1);
  });

  const refusals: readonly (readonly [string, string, () => TestPolicy])[] = [
    ['an older sequence replayed', 'policy_sequence_old', () => signer.publish({ condition: 'true' }, 9)],
    [
      'another policy under the same sequence',
      'policy_sequence_reused',
      () => signer.publish({ condition: 'true' }, 10),
    ],
    [
      'another trust domain',
      'policy_foreign',
      () =>
        signer.publish({ condition: 'true', change: { trustDomain: parseTrustDomain('evil.example') } }, 20),
    ],
    [
      'another target',
      'policy_wrong_target',
      () => signer.publish({ condition: 'true', change: { target: 'admin' } }, 20),
    ],
    [
      'the signature of another key',
      'policy_signature_invalid',
      () => new TestPolicySigner().publish({ condition: 'true' }, 20),
    ],
    [
      'a statement altered after signing',
      'policy_signature_invalid',
      () => ({ ...post, signed: { ...post.signed, statement: post.signed.statement.replace('11', '12') } }),
    ],
    [
      'a statement that is none',
      'policy_statement_invalid',
      () => ({ ...post, signed: signer.sign('{"sequence": "many"}') }),
    ],
    [
      'an entry point that the artefact lacks',
      'policy_artifact_invalid',
      () =>
        signer.publish({ condition: 'true', change: { entrypoints: { allow: 'picket/authz/deny' } } }, 20),
    ],
    [
      'a policy that cannot be evaluated',
      'policy_warm_up_failed',
      () => signer.publish({ condition: 'true', rules: 'allow := 5 if true' }, 20),
    ],
  ];

  test.each(refusals)('keeps the old policy when offered %s (%s)', async (_what, reason, make) => {
    const rig = new Rig();
    await rig.offer(get);
    expect(await rig.offer(make())).toBe('refused');
    expect(rig.allowed).toBe('GET');
    expect(rig.refusals).toEqual([reason]);
    expect(JSON.parse(rig.lines.at(-1)!)).toMatchObject({
      level: 'error',
      event: 'policy_refused',
      reason,
      policyInForce: 10,
    });
  });

  test('refuses an artefact with any byte altered', async () => {
    const rig = new Rig();
    await rig.offer(get);
    for (const at of [0, 100, post.artifact.length >> 1, post.artifact.length - 1]) {
      const artifact = Uint8Array.from(post.artifact);
      artifact[at]! ^= 1;
      expect(await rig.offer({ ...post, artifact })).toBe('refused');
    }
    expect(new Set(rig.refusals)).toEqual(new Set(['policy_artifact_altered']));
    expect(rig.allowed).toBe('GET');
    expect(await rig.offer(post)).toBe('in_force');
  });

  test('refuses a signature with any bit altered', async () => {
    const rig = new Rig();
    const bytes = Buffer.from(post.signed.signature, 'base64');
    for (let at = 0; at < bytes.length; at += 7) {
      const signature = Buffer.from(bytes);
      signature[at]! ^= 4;
      expect(
        await rig.offer({ ...post, signed: { ...post.signed, signature: signature.toString('base64') } }),
      ).toBe('refused');
    }
    expect(rig.holder.policy.current).toBeUndefined();
    expect(rig.fetched).toEqual([]);
  });

  test('keeps the old policy when the loader fails', async () => {
    const loader = createOpaWasmLoader();
    let isBroken = false;
    const rig = new Rig({
      loader: {
        load: async (artifact) =>
          isBroken
            ? Promise.reject(new PicketError('invalid_argument', 'policy_artifact_invalid', 'no'))
            : loader.load(artifact),
      },
    });
    await rig.offer(get);
    isBroken = true;
    expect(await rig.offer(post)).toBe('refused');
    expect(rig.allowed).toBe('GET');
  });

  test('tries again while the artefact cannot be fetched, and not after a newer offer', async () => {
    const rig = new Rig();
    await rig.offer(get);
    expect(await rig.holder.offer(post.signed)).toBe('refused');
    expect(rig.refusals).toEqual(['server_unreachable']);
    expect(rig.clock.pending).toBe(1);
    rig.artifacts.set(post.statement.digest, post.artifact);
    rig.clock.advance(60_000);
    await waitUntil('the second attempt succeeded', () => rig.allowed === 'POST');
    expect(rig.clock.pending).toBe(0);

    const lost = signer.publish({ condition: 'input.request.method == "PUT"' }, 12);
    await rig.holder.offer(lost.signed);
    expect(rig.clock.pending).toBe(1);
    const newer = signer.publish({ condition: 'input.request.method == "GET"' }, 13);
    expect(await rig.offer(newer)).toBe('in_force');
    expect(rig.clock.pending).toBe(0);
    expect(rig.allowed).toBe('GET');
  });

  test('stop() gives up trying', async () => {
    const rig = new Rig();
    await rig.holder.offer(post.signed);
    rig.holder.stop();
    expect(rig.clock.pending).toBe(0);
  });

  test('works off offers that come at once one after another, the newest last', async () => {
    const rig = new Rig();
    await Promise.all([rig.offer(get), rig.offer(post)]);
    expect(rig.allowed).toBe('POST');
  });

  test('refuses everything without a trust bundle', async () => {
    const rig = new Rig({ bundle: () => undefined });
    expect(await rig.offer(get)).toBe('refused');
    expect(rig.refusals).toEqual(['bundle_missing']);
  });
});

describe('PolicyHolder.restore()', () => {
  test('puts the last good policy in force without the server', async () => {
    const first = new Rig();
    await first.offer(get);
    const second = new Rig({ store: first.store });
    expect(await second.holder.restore()).toBe('in_force');
    expect(second.allowed).toBe('GET');
    expect(second.fetched).toEqual([]);
  });

  test('remembers the highest sequence, so that a replay is refused after a restart too', async () => {
    const first = new Rig();
    await first.offer(post);
    const second = new Rig({ store: first.store });
    await second.holder.restore();
    expect(await second.offer(get)).toBe('refused');
    expect(second.refusals).toEqual(['policy_sequence_old']);
    expect(second.allowed).toBe('POST');
  });

  test('remembers a sequence whose artefact never came', async () => {
    const first = new Rig();
    await first.offer(get);
    await first.holder.offer(signer.publish({ condition: 'true' }, 12).signed);
    const second = new Rig({ store: first.store });
    await second.holder.restore();
    expect(second.allowed).toBe('GET');
    expect(await second.offer(post)).toBe('refused');
    expect(second.refusals).toEqual(['policy_sequence_old']);
  });

  test('has nothing in force on a first start', async () => {
    const rig = new Rig();
    expect(await rig.holder.restore()).toBe('unchanged');
    expect(rig.holder.policy.current).toBeUndefined();
    expect(rig.refusals).toEqual([]);
  });

  test('refuses a last good policy that no longer verifies, or is malformed', async () => {
    const first = new Rig();
    await first.offer(get);
    const second = new Rig({ store: first.store, bundle: () => new TestPolicySigner().bundle });
    expect(await second.holder.restore()).toBe('refused');
    expect(second.refusals).toEqual(['policy_signature_invalid']);
    expect(second.holder.policy.current).toBeUndefined();
    for (const value of [
      Buffer.alloc(0),
      Buffer.from([255, 255, 255, 255]),
      Buffer.from([0, 0, 0, 2, 0x7b, 0x7d]),
    ]) {
      await first.store.write('policy-last-good', value);
      const third = new Rig({ store: first.store });
      expect(await third.holder.restore()).toBe('refused');
      expect(third.holder.policy.current).toBeUndefined();
    }
  });

  test('refuses an older kept policy that was put in the place of the last one', async () => {
    const store = new MemoryStore();
    const first = new Rig({ store });
    await first.offer(get);
    const older = await store.read('policy-last-good');
    await first.offer(post);
    await store.write('policy-last-good', older!);
    const second = new Rig({ store });
    expect(await second.holder.restore()).toBe('refused');
    expect(second.refusals).toEqual(['policy_sequence_old']);
    expect(second.allowed).toBeUndefined();
    expect(await second.offer(post)).toBe('in_force');
  });

  test('rejects when the highest sequence was altered on disk', async () => {
    const store = new MemoryStore();
    const broken: SealedStore = {
      read: async (name) => {
        if (name === 'policy-highest-sequence')
          throw new PicketError('failed_precondition', 'seal_broken', 'altered');
        return await store.read(name);
      },
      write: (name, value) => store.write(name, value),
      delete: (name) => store.delete(name),
    };
    const error = await new Rig({ store: broken }).holder.restore().catch((cause: unknown) => cause);
    expect(error).toMatchObject({ reason: 'seal_broken' });
  });
});
