import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { buildCsr, generateP256Key, type KeyPair } from '../../../agent/identity/key-pair.ts';
import { attestAnswer, type AttestRequest, type IssuedSvid } from '../../../shared/protocol/attestation.ts';
import { createdToken } from '../../../shared/protocol/operator.ts';
import { encodePem } from '../../../shared/wire/pem.ts';
import { run, runOk } from '../../kit/child.ts';
import type { ControlPlane } from '../../kit/control-plane.ts';
import type { TestHost } from '../../kit/netns.ts';
import { refusalBody } from '../../kit/operator-client.ts';
import { waitUntil } from '../../kit/wait.ts';

interface PortAnswer {
  readonly status: number;
  readonly body: unknown;
}

const TOO_MANY = 429;

/** A client of port 8443 that says whatever an attacker wants, on a connection of its own each time, by curl. */
export class AgentPort {
  readonly #control: ControlPlane;
  readonly #from: TestHost;
  #asked = 0;
  readonly #folder: string;

  constructor(control: ControlPlane, from: TestHost) {
    this.#control = control;
    this.#folder = mkdtempSync(join(control.folder, 'agent-port-'));
    this.#from = from;
  }

  /** What the server answered; status 0: nothing. Asks again as long as this address has asked too often. */
  async post(...question: Parameters<AgentPort['postAtOnce']>): Promise<PortAnswer> {
    return await waitUntil('the server takes another attempt from here', async () => {
      const answer = await this.postAtOnce(...question);
      return answer.status !== TOO_MANY && answer;
    });
  }

  /** As `post`, whatever the answer. Bytes are sent as they are, everything else as JSON; `port` is 8443 unless told otherwise. */
  async postAtOnce(
    path: string,
    body: unknown,
    { as, port = 8443 }: { readonly as?: HeldIdentity; readonly port?: number } = {},
  ): Promise<PortAnswer> {
    const identity = as === undefined ? [] : ['--cert', as.certFile, '--key', as.keyFile];
    const bodyFile = join(this.#folder, `${++this.#asked}.body`);
    const isBytes = body instanceof Uint8Array;
    writeFileSync(bodyFile, isBytes ? body : JSON.stringify(body));
    const name = `localhost:${port}`;
    const where = ['--connect-to', `${name}:${this.#control.host.ipv4}:${port}`];
    const mediaType = isBytes ? 'application/octet-stream' : 'application/json';
    const told = ['-H', `content-type: ${mediaType}`, '--data-binary', `@${bodyFile}`];
    const trust = ['--cacert', this.#control.bundleFile, '-w', '\n%{http_code}', '-sS', '-m', '30'];
    const command = ['curl', ...trust, ...where, ...identity, ...told, `https://${name}${path}`];
    const { stdout } = await run(this.#from.in(...command));
    const end = stdout.lastIndexOf('\n');
    const text = stdout.slice(0, end);
    return { status: Number(stdout.slice(end + 1)), body: text === '' ? undefined : JSON.parse(text) };
  }

  /** As `post`, of what must be refused: why it was. */
  async refusal(...question: Parameters<AgentPort['post']>): Promise<string> {
    const { status, body } = await this.post(...question);
    return `${status} ${refusalBody.parse(body).reason}`;
  }

  /** SHA-256 of the certificate that the server shows. */
  async serverCertificateSha256(): Promise<Uint8Array> {
    const address = `${this.#control.host.ipv4}:8443`;
    const shown = await runOk(this.#from.in('openssl', 's_client', '-connect', address), { stdin: '' });
    return createHash('sha256').update(new X509Certificate(shown).raw).digest();
  }

  /** Lets a host in by a join token of that name, as its agent does. */
  async join(name: string): Promise<HeldIdentity> {
    const { token } = await this.#control.picketJson(createdToken, 'token', 'create', name);
    const keyPair = await generateP256Key();
    const request: AttestRequest = {
      csr: base64(buildCsr(keyPair)),
      payload: { type: 'join_token', token },
      agentVersion: '1',
      addresses: [],
    };
    const answer = attestAnswer.parse((await this.post('/v1/attest', request)).body);
    if (answer.kind !== 'attested') throw new Error('A join token is not challenged');
    return this.hold(answer.svid, keyPair);
  }

  /** What was issued, as files for curl. */
  hold({ spiffeId, chain }: IssuedSvid, keyPair: KeyPair): HeldIdentity {
    const stem = join(this.#folder, createHash('sha256').update(keyPair.publicKeySpki).digest('hex'));
    const [certFile, keyFile] = [`${stem}.crt`, `${stem}.key`];
    const pem = chain.map((der) => encodePem('CERTIFICATE', Buffer.from(der, 'base64')));
    writeFileSync(certFile, pem.join('\n'));
    writeFileSync(keyFile, encodePem('PRIVATE KEY', keyPair.privateKeyPkcs8));
    return { spiffeId: z.string().parse(spiffeId), certFile, keyFile };
  }
}

/** A certificate with its key. */
export interface HeldIdentity {
  readonly spiffeId: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
