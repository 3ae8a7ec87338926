# The image of a node: one static binary and nothing that could run beside it.
#
#     docker build -t heliograph .

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# Modules change less often than code, so they have a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
# go.work stays outside: the node is built with the versions in its own go.mod, not
# with those that the tests' dependencies raise them to.
COPY cmd cmd
COPY internal internal
COPY pkg pkg
RUN CGO_ENABLED=0 go build -trimpath -o node ./cmd/node

FROM scratch
# For rediss:// to a server whose certificate a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/node /node
# A number, since Kubernetes cannot tell whether a name is root.
USER 65532:65532
EXPOSE 8080 8081
# Without a shell in the image there is nothing that could ask the admin port, so there
# is no HEALTHCHECK: balancers and Kubernetes ask it themselves.
ENTRYPOINT ["/node"]
