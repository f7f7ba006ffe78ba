# syntax=docker/dockerfile:1
# meshbox alone in an image: one static program, run by nobody in particular, with
# its data in /data.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w -buildid=" -o /out/meshbox .
# A new volume takes its owner and mode from here.
RUN mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/meshbox /usr/local/bin/meshbox
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV PATH=/usr/local/bin MESHBOX_DB=/data/meshbox.db MESHBOX_LISTEN=0.0.0.0:7900
EXPOSE 7900
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=1m --retries=3 CMD ["meshbox", "health"]
ENTRYPOINT ["meshbox"]
CMD ["serve"]
