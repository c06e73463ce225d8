import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { sign, webcrypto } from 'node:crypto';
import { join } from 'node:path';
import { MAX_ARTIFACT_BYTES } from '../../../shared/policy/policy-bundle.ts';
import type { PolicyStatement, SignedPolicy } from '../../../shared/protocol/policy-statement.ts';
import { policyStatement } from '../../../shared/protocol/policy-statement.ts';
import { CODE_SIGNING } from '../../../shared/spiffe/policy-signer.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import type { TestCertificate } from '../../kit/test-authority.ts';
import { waitUntil } from '../../kit/wait.ts';
import { ForgedServer } from './forged-server.ts';
import { issueLeaf, signIntermediate } from './mesh-client.ts';
import { stateFolderOf, stealState, type StolenState } from './stolen-state.ts';

/**
 * Policies that are altered or older than what a host has seen: from somebody who answers in the server's place with the authority's online key, and from
 * somebody who puts files into the agent's folder. The host goes on with what it has, or denies everything.
 */

setDefaultTimeout(60_000);

const { web } = SHOP_USERS;
/** Artefacts of many megabytes go through a server and an agent on a busy machine. */
const PATIENT_MS = 60_000;
const LAST_GOOD = 'policy-last-good.sealed';
const SEQUENCES = 'policy-highest-sequence.sealed';
const PERMISSIVE = 'package picket.authz\n\nallow := true\n';
let shop: Shop;
let intermediate: TestCertificate;
/** A policy that allows everything, and was in force before the strict one. */
let older: StolenState;
/** The same under a sequence that the victim has not seen. */
let newer: StolenState;
let snapshot: StolenState['snapshot'];
let server: ForgedServer;

beforeAll(async () => {
  shop = await Shop.open();
  const { store, desk, mesh } = shop;
  intermediate = await signIntermediate(mesh.control);
  const strict = await waitUntil('the strict policy is kept', async () => await stealState(store));
  await publish(PERMISSIVE);
  await waitUntil('everything is allowed', async () => (await refund()) === 201);
  // It is in force before it is written down.
  older = await waitUntil('it is kept', async () => {
    const state = await stealState(store);
    return sequenceOf(state.policy.signed) > sequenceOf(strict.policy.signed) && state;
  });
  copyFileSync(join(stateFolderOf(store), LAST_GOOD), join(shop.folder, 'older'));
  await mesh.control.picketOk('policy', 'rollback', '1');
  await waitUntil('no more', async () => (await refund()) === 403);
  await store.stop();
  ({ snapshot } = await stealState(store));
  await publish(PERMISSIVE);
  const { version } = statementOf(strict.policy.signed);
  newer = await waitUntil('another host has it', async () => {
    const state = await stealState(desk);
    const statement = statementOf(state.policy.signed);
    // What was rolled back to is newer than the older one, too.
    const isIt = statement.version !== version && statement.sequence > sequenceOf(older.policy.signed);
    return isIt && state;
  });
  await mesh.control.stop();
}, 120_000);
afterAll(async () => {
  await server.stop();
  await shop.close();
});

async function publish(rego: string): Promise<void> {
  const folder = join(shop.folder, 'permissive');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'policy.rego'), rego);
  await shop.mesh.control.picketOk('policy', 'publish', folder, '-m', 'all');
}

const refund = async (): Promise<number> => (await shop.ask(web, '/refunds', '-X', 'POST')).status;

function statementOf({ statement }: SignedPolicy): PolicyStatement {
  return policyStatement.parse(JSON.parse(statement));
}

function sequenceOf(signed: SignedPolicy): number {
  return statementOf(signed).sequence;
}

/** The reasons for which `store` has refused a policy since it was started last. */
function refusals(): readonly string[] {
  const lines = shop.store.log().split('\n').slice(startedAt);
  return lines.flatMap((line) => /"event":"policy_refused","reason":"([^"]+)"/.exec(line)?.[1] ?? []);
}

let startedAt = 0;

/** Starts the agent of `store`, without waiting for anything. */
function launchStore(): void {
  startedAt = shop.store.log().split('\n').length - 1;
  shop.store.launch();
}

/** The strict policy decides: what it allows passes, and nothing else. */
async function expectStrict(): Promise<void> {
  expect((await shop.ask(web, '/invoices')).status).toBe(200);
  expect(await refund()).toBe(403);
}

describe('a kept policy', () => {
  const keep = (name: string): Buffer => readFileSync(join(stateFolderOf(shop.store), name));
  const put = (name: string, bytes: Uint8Array): void =>
    writeFileSync(join(stateFolderOf(shop.store), name), bytes);
  const flipped = (bytes: Buffer): Buffer => {
    const altered = Buffer.from(bytes);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    return altered;
  };

  /** Without the server the host has what stands in its folder. */
  async function expectNothingAllowed(reason: string): Promise<void> {
    launchStore();
    await waitUntil('it is refused', () => refusals().includes(reason));
    const answer = await waitUntil('requests are decided', async () => {
      const { status } = await shop.ask(web, '/invoices');
      return status > 0 && status;
    });
    expect(answer).toBe(403);
    expect(await refund()).toBe(403);
    await shop.store.stop();
  }

  test('that was altered by a bit is refused, and so is an older one in its place: nothing is allowed', async () => {
    const kept = keep(LAST_GOOD);
    put(LAST_GOOD, flipped(kept));
    await expectNothingAllowed('seal_broken');
    put(LAST_GOOD, readFileSync(join(shop.folder, 'older')));
    await expectNothingAllowed('policy_sequence_old');
    put(LAST_GOOD, kept);
  });

  test('whose record of sequences was altered keeps the agent from starting: nothing passes', async () => {
    const kept = keep(SEQUENCES);
    put(SEQUENCES, flipped(kept));
    const child = shop.store.launch();
    await waitUntil('it has ended', () => !child.isRunning);
    expect(shop.store.log()).toContain('seal_broken');
    expect((await shop.ask(web, '/invoices')).status).toBe(0);
    put(SEQUENCES, kept);
  });
});

describe('a forged server', () => {
  beforeAll(async () => {
    server = await ForgedServer.start(shop.mesh.control, { intermediate, victim: '/join_token/store' });
    launchStore();
    await server.say(snapshot);
    await waitUntil('the victim hears it', () => logSinceStart().includes('"event":"sync_live"'));
    await expectStrict();
  });

  const logSinceStart = (): string => shop.store.log().split('\n').slice(startedAt).join('\n');
  let cursor = 0;

  async function offer(signed: SignedPolicy): Promise<void> {
    cursor += 1;
    await server.say({
      kind: 'changes',
      epoch: snapshot.epoch,
      cursor: snapshot.cursor + cursor,
      changes: [{ op: 'put', item: { kind: 'policy', key: 'mesh', value: signed } }],
    });
  }

  const flippedText = (text: string): string => {
    const bytes = Buffer.from(text, 'base64');
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    return bytes.toString('base64');
  };

  /** Signed by a key that the online authority certified: only the offline root makes policy signers. */
  async function signedByOnlineAuthority(): Promise<SignedPolicy> {
    const uri = 'spiffe://example.org/picket/policy-signer';
    const leaf = await issueLeaf(intermediate, uri, { purposes: [CODE_SIGNING] });
    const statement = statementWith({ sequence: 1000 });
    const key = await webcrypto.subtle.exportKey('pkcs8', leaf.keys.privateKey);
    const der = { key: Buffer.from(key), format: 'der', type: 'pkcs8' } as const;
    const chain = [leaf, intermediate].map((each) => Buffer.from(each.der).toString('base64'));
    return { statement, signature: sign('sha256', Buffer.from(statement), der).toString('base64'), chain };
  }

  function statementWith(change: object): string {
    return JSON.stringify({ ...statementOf(older.policy.signed), ...change });
  }

  const forgeries: Readonly<Record<string, readonly [() => SignedPolicy | Promise<SignedPolicy>, string]>> = {
    'an older policy': [() => older.policy.signed, 'policy_sequence_old'],
    'a signature that was altered by a bit': [
      () => ({ ...newer.policy.signed, signature: flippedText(newer.policy.signed.signature) }),
      'policy_signature_invalid',
    ],
    'an older policy under a new sequence': [
      () => ({ ...older.policy.signed, statement: statementWith({ sequence: 1000 }) }),
      'policy_signature_invalid',
    ],
    'a policy that the online authority signed': [signedByOnlineAuthority, 'chain_length_refused'],
    'the same without the intermediate': [
      async () => {
        const { chain, ...rest } = await signedByOnlineAuthority();
        return { ...rest, chain: chain.slice(0, 1) };
      },
      'certificate_untrusted',
    ],
  };

  for (const [name, [make, reason]] of Object.entries(forgeries))
    test(`does not get ${name} into force`, async () => {
      const before = refusals().length;
      await offer(await make());
      await waitUntil('it is refused', () => refusals().length > before);
      expect(refusals().at(-1)).toBe(reason);
      await expectStrict();
    });

  test('does not get an altered artefact into force, nor one without end; the right one takes effect, so that it was heard all along', async () => {
    const { signed, artifact } = newer.policy;
    const { digest } = statementOf(signed);
    const altered = Uint8Array.from(artifact);
    altered[altered.length >> 1] = (altered[altered.length >> 1] ?? 0) ^ 1;
    server.serveArtifact(digest, altered);
    await offer(signed);
    await waitUntil('it is refused', () => refusals().at(-1) === 'policy_artifact_altered', PATIENT_MS);
    await expectStrict();
    server.serveArtifact(digest, new Uint8Array(MAX_ARTIFACT_BYTES + 1));
    await offer(older.policy.signed);
    await offer(signed);
    await waitUntil('it is not even read', () => refusals().at(-1) === 'bad_answer', PATIENT_MS);
    await expectStrict();
    server.serveArtifact(digest, artifact);
    await offer(older.policy.signed);
    await offer(signed);
    await waitUntil('the newer policy is in force', async () => (await refund()) === 201, PATIENT_MS);
  }, 200_000);
});
