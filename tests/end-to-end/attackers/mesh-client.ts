import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { webcrypto } from 'node:crypto';
import { encodePem } from '../../../shared/wire/pem.ts';
import { encodeFrame, FrameDecoder, type TunnelFrame } from '../../../shared/wire/tunnel-frame.ts';
import type { ControlPlane } from '../../kit/control-plane.ts';
import type { TestHost } from '../../kit/netns.ts';
import {
  leafProfile,
  makeCertificate,
  makeKeys,
  x509,
  type TestCertificate,
  type TestProfile,
} from '../../kit/test-authority.ts';

const HOUR_MS = 3_600_000;

/** What a client of port 15008 shows: leaf first. */
export interface Credentials {
  readonly chain: readonly TestCertificate[];
}

/** An intermediate that the mesh's root signed: whoever holds it can make any certificate that the mesh believes. */
export async function signIntermediate(control: ControlPlane): Promise<TestCertificate> {
  const passphrase = join(control.folder, 'root.passphrase');
  await control.picketOk('ca', 'renew', join(control.folder, 'ca'), '--passphrase-file', passphrase);
  return await readIntermediate(join(control.folder, 'ca'));
}

/** The intermediate in the folder of a ceremony, before a server has taken its key in. */
export async function readIntermediate(folder: string): Promise<TestCertificate> {
  const read = (name: string): string => readFileSync(join(folder, 'online', name), 'utf8');
  const certificate = new x509.X509Certificate(read('intermediate.pem'));
  const pkcs8 = Buffer.from(
    read('intermediate.key')
      .replaceAll(/-----[^-]+-----/g, '')
      .replaceAll(/\s/g, ''),
    'base64',
  );
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']);
  const { publicKey } = await makeKeys();
  return { der: new Uint8Array(certificate.rawData), certificate, keys: { privateKey, publicKey } };
}

/** A leaf for `spiffeId` as the mesh's authority makes it, valid for an hour, unless `change` says otherwise. */
export async function issueLeaf(
  issuer: TestCertificate,
  spiffeId: string,
  change: TestProfile = {},
): Promise<TestCertificate> {
  const now = Date.now();
  const life = { notBeforeMs: now - HOUR_MS, notAfterMs: now + HOUR_MS };
  return await makeCertificate({ ...leafProfile(spiffeId), ...life, ...change }, issuer);
}

/** An opening of the tunnel to `address`:`port`; IPv6 as its 32 hexadecimal digits. */
export function opening(address: string, port: number): Uint8Array {
  const bytes = address.includes('.')
    ? Uint8Array.from(address.split('.'), Number)
    : Uint8Array.from(Buffer.from(address, 'hex'));
  const source = { address: Uint8Array.of(192, 0, 2, 1), port: 1 };
  return encodeFrame({
    type: 'open',
    connectionId: crypto.randomUUID(),
    destination: { address: bytes, port },
    source,
  });
}

export interface MeshAttempt {
  readonly from: TestHost;
  readonly to: TestHost;
  readonly serverName?: string;
  readonly credentials?: Credentials;
  /** What is sent once TLS stands. */
  readonly send?: Uint8Array;
  /** What is sent once the opening was accepted. */
  readonly request?: Uint8Array;
  /** More options of `openssl s_client`. */
  readonly options?: readonly string[];
  readonly seconds?: number;
  /** Whether an accept is all that is waited for. */
  readonly endsOnAccept?: boolean;
}

export interface MeshAnswer {
  readonly frames: readonly TunnelFrame[];
  readonly data: string;
  /** What OpenSSL says of it. */
  readonly told: string;
}

/** Speaks to port 15008 by OpenSSL, for at most `seconds` (3 if absent), and not beyond the first frame after an accept. */
export async function tryMesh(attempt: MeshAttempt): Promise<MeshAnswer> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-mesh-client-'));
  try {
    return await tryMeshWithin(folder, attempt);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function tryMeshWithin(folder: string, attempt: MeshAttempt): Promise<MeshAnswer> {
  const {
    from,
    to,
    serverName,
    credentials,
    send = new Uint8Array(),
    request = new Uint8Array(),
    options = [],
    seconds = 3,
    endsOnAccept = false,
  } = attempt;
  const name = serverName === undefined ? ['-noservername'] : ['-servername', serverName];
  const shown = credentials === undefined ? [] : await credentialOptions(credentials, folder);
  const connect = ['-connect', `${to.ipv4}:15008`, '-tls1_3', '-alpn', 'picket/1', '-quiet', '-no_ign_eof'];
  const command = [
    'timeout',
    String(seconds),
    'openssl',
    's_client',
    ...connect,
    ...name,
    ...shown,
    ...options,
  ];
  const child = Bun.spawn(from.in(...command), { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' });
  void child.stdin.write(send);
  await child.stdin.flush();
  const told = new Response(child.stderr).text();
  const frames: TunnelFrame[] = [];
  let data = '';
  const decoder = new FrameDecoder();
  const onFrame = (frame: TunnelFrame): void => {
    frames.push(frame);
    if (frame.type === 'accept' && !endsOnAccept) void child.stdin.write(request);
    else child.kill();
  };
  const onData = (part: Uint8Array, start: number, end: number): void =>
    void (data += Buffer.from(part.subarray(start, end)).toString('latin1'));
  for await (const bytes of child.stdout) decoder.decode(bytes, { onFrame, onData });
  await child.exited;
  return { frames, data, told: await told };
}

/** Where a chain and its key stand. */
export interface CredentialFiles {
  readonly leafFile: string;
  /** What comes behind the leaf. */
  readonly othersFile: string;
  /** All of it. */
  readonly chainFile: string;
  readonly keyFile: string;
}

/** A chain and the key of its leaf as files, in a folder of their own within one that the caller removes. */
export async function writeCredentials(
  chain: readonly TestCertificate[],
  within: string,
): Promise<CredentialFiles> {
  const [leaf, ...others] = chain;
  if (leaf === undefined) throw new RangeError('A chain has a leaf');
  const folder = mkdtempSync(join(within, 'credentials-'));
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const key = new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', leaf.keys.privateKey));
  const pem = ({ certificate }: TestCertificate): string => `${certificate.toString('pem')}\n`;
  return {
    leafFile: file('leaf.pem', pem(leaf)),
    othersFile: file('others.pem', others.map(pem).join('')),
    chainFile: file('chain.pem', [leaf, ...others].map(pem).join('')),
    keyFile: file('leaf.key', encodePem('PRIVATE KEY', key)),
  };
}

/** As OpenSSL takes them. */
async function credentialOptions({ chain }: Credentials, within: string): Promise<readonly string[]> {
  const { leafFile, othersFile, keyFile } = await writeCredentials(chain, within);
  const own = ['-cert', leafFile, '-key', keyFile];
  return chain.length === 1 ? own : [...own, '-cert_chain', othersFile];
}
