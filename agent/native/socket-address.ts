/** An IP address and a port as the kernel gives them: IPv4 in dotted form, IPv6 in RFC 5952 form, never an IPv4-mapped IPv6 address. */
export interface SocketAddress {
  readonly address: string;
  readonly port: number;
}
