import { createPublicKey, generateKeyPair } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import { serverId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import type { ServerCertificate } from '../http/listeners/server-certificate.ts';
import type { CertificateAuthority } from './ca.ts';

export interface ServerCertificateOptions {
  readonly authority: CertificateAuthority;
  readonly trustDomain: TrustDomain;
  /** DNS names and IP addresses beside the SPIFFE ID, for clients such as curl that verify a server by its name. Agents and the command line go by the SPIFFE ID alone. */
  readonly names: readonly string[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** The server's own X509-SVID, replaced in time. */
export interface RunningServerCertificate extends Running, Watched<ServerCertificate> {}

const LIFE_SECONDS = 86_400;
const RENEW_AT = 0.5;
const RETRY = { firstMs: 1000, maxMs: 60_000 };

const generate = promisify(generateKeyPair);

/** Issues the server's certificate and renews it, with a new key, at half of its life. The key stays in memory. Throws when there cannot even be a first one. */
export async function startServerCertificate(
  options: ServerCertificateOptions,
): Promise<RunningServerCertificate> {
  const value = new WatchedValue(await makeCertificate(options));
  const backoff = new Backoff({ ...RETRY, random: options.random });
  let cancel: () => void = () => undefined;
  let isStopped = false;
  const schedule = (delayMs: number): void => {
    // A renewal may have been under way when it was stopped.
    if (!isStopped) cancel = options.clock.schedule(delayMs, () => void renew());
  };
  const renew = async (): Promise<void> => {
    try {
      value.set(await makeCertificate(options));
      backoff.reset();
      schedule(untilRenewal(value.current, options.clock));
    } catch (error) {
      const ends = new Date(value.current.notAfterMs).toISOString();
      options.log.error('server_certificate_not_renewed', { error, ends });
      schedule(backoff.nextMs());
    }
  };
  schedule(untilRenewal(value.current, options.clock));
  return {
    get current() {
      return value.current;
    },
    watch: (listener) => value.watch(listener),
    stop: async () => {
      isStopped = true;
      await Promise.resolve(cancel());
    },
  };
}

function untilRenewal(certificate: ServerCertificate, clock: Clock): number {
  return Math.max(1000, (certificate.notAfterMs - clock.nowMs()) * RENEW_AT);
}

async function makeCertificate({
  authority,
  trustDomain,
  names,
}: ServerCertificateOptions): Promise<ServerCertificate> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  const issued = await authority.issue({
    spiffeId: serverId(trustDomain),
    publicKeySpki: new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' })),
    ttlSeconds: LIFE_SECONDS,
    dnsNames: names.filter((name) => isIP(name) === 0),
    ipAddresses: names.filter((name) => isIP(name) !== 0),
  });
  return {
    chainPem: issued.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    keyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }),
    notAfterMs: issued.notAfterMs,
  };
}
