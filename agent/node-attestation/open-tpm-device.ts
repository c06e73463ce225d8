import { PicketError } from '../../shared/errors/errors.ts';
import { openTpmCharacterDevice } from './tpm-character-device.ts';
import type { TpmDevice } from './tpm-device.ts';
import { openTpmSocket } from './tpm-socket-device.ts';

/** The longest a command may take: making an RSA key takes a slow TPM half a minute. */
const DEFAULT_TIMEOUT_MS = 90_000;

/**
 * Opens the TPM at `address`: the path of a character device (`/dev/tpmrm0`), `unix:/path` or `tcp:127.0.0.1:2321` of a swtpm. TCP is for loopback
 * alone, since nothing protects it. Throws `invalid_argument`, reason `tpm_address_invalid`, or `unavailable`, reason `tpm_unreachable`.
 */
export async function openTpmDevice(
  address: string,
  { timeoutMs = DEFAULT_TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
): Promise<TpmDevice> {
  if (address.startsWith('/')) return openTpmCharacterDevice(address, { timeoutMs });
  if (address.startsWith('unix:/'))
    return openTpmSocket({ path: address.slice('unix:'.length) }, { timeoutMs });
  const tcp = /^tcp:(127\.0\.0\.1|\[::1\]):(\d{1,5})$/.exec(address);
  const port = Number(tcp?.[2]);
  if (tcp?.[1] !== undefined && port >= 1 && port <= 65_535)
    return openTpmSocket({ host: tcp[1].replace(/[[\]]/g, ''), port }, { timeoutMs });
  throw new PicketError(
    'invalid_argument',
    'tpm_address_invalid',
    `Cannot open TPM "${address}": expected a device such as /dev/tpmrm0, unix:/path, or tcp:127.0.0.1:port`,
  );
}
