package deploy

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// published has the types that Kubernetes, and the Prometheus operator, publish for the
// kinds of objects in k8s.
var published = map[string]func() metav1.Object{
	"v1 Namespace":                            func() metav1.Object { return new(corev1.Namespace) },
	"v1 ConfigMap":                            func() metav1.Object { return new(corev1.ConfigMap) },
	"v1 Secret":                               func() metav1.Object { return new(corev1.Secret) },
	"v1 Service":                              func() metav1.Object { return new(corev1.Service) },
	"apps/v1 Deployment":                      func() metav1.Object { return new(appsv1.Deployment) },
	"policy/v1 PodDisruptionBudget":           func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":      func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() metav1.Object { return new(monitoringv1.ServiceMonitor) },
}

// decode decodes an object as an API server does that was asked to be strict: a field
// that the type does not have, or has in another case, or that is there twice, is an
// error.
func decode(document []byte) (metav1.Object, error) {
	data, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return nil, err
	}
	make, ok := published[kind.APIVersion+" "+kind.Kind]
	if !ok {
		return nil, fmt.Errorf("no type for %s %s", kind.APIVersion, kind.Kind)
	}
	object := make()
	strict, err := kjson.UnmarshalStrict(data, object)
	if err == nil && len(strict) > 0 {
		err = fmt.Errorf("%s %s: %v", kind.Kind, object.GetName(), strict)
	}
	return object, err
}

// kustomize builds a directory as `kubectl kustomize` does.
func kustomize(t *testing.T, dir string) []metav1.Object {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var objects []metav1.Object
	for _, r := range built.Resources() {
		document, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, err := decode(document)
		if err != nil {
			t.Error(err)
			continue
		}
		objects = append(objects, object)
	}
	return objects
}

// whole is k8s with all of its components, including those that are off.
func whole(t *testing.T) []metav1.Object {
	t.Helper()
	dir := t.TempDir()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Rel(dir, filepath.Join(here, "k8s"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "kustomization.yaml"),
		"namespace: heliograph\nresources: ["+base+"]\ncomponents: ["+filepath.Join(base, "monitoring")+"]\n")
	return kustomize(t, dir)
}

// one returns the only object of the type with the name, or with the name and a hash.
func one[T metav1.Object](t *testing.T, objects []metav1.Object, name string) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if o, is := o.(T); is && regexp.MustCompile("^"+name+"(-[a-z0-9]{10})?$").MatchString(o.GetName()) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T of the name %s", len(found), *new(T), name)
	}
	return found[0]
}

func all[T metav1.Object](objects []metav1.Object) []T {
	var found []T
	for _, o := range objects {
		if o, is := o.(T); is {
			found = append(found, o)
		}
	}
	return found
}

func TestDecodeIsStrict(t *testing.T) {
	for _, document := range []string{
		"apiVersion: v1\nkind: Service\nspec: {port: []}",
		"apiVersion: v1\nkind: Service\nspec: {Ports: []}",
		"apiVersion: v1\nkind: Service\nspec: {ports: [], ports: []}",
		"apiVersion: v1\nkind: Service\nspec: {ports: [{port: many}]}",
		"apiVersion: v2\nkind: Service",
	} {
		if _, err := decode([]byte(document)); err == nil {
			t.Errorf("was taken:\n%s", document)
		}
	}
}

func TestKustomizeBuilds(t *testing.T) {
	kinds := func(objects []metav1.Object) map[string]int {
		n := make(map[string]int)
		for _, o := range objects {
			n[strings.TrimPrefix(fmt.Sprintf("%T", o), "*")]++
		}
		return n
	}
	for name, tt := range map[string]struct {
		objects []metav1.Object
		want    map[string]int
	}{
		"base": {kustomize(t, filepath.Join(root, "k8s/base")), map[string]int{
			"v1.Deployment": 1, "v1.Service": 1, "v1.PodDisruptionBudget": 1, "v1.NetworkPolicy": 1, "v1.ConfigMap": 1,
		}},
		"with Redis": {kustomize(t, filepath.Join(root, "k8s")), map[string]int{
			"v1.Namespace": 1, "v1.Deployment": 2, "v1.Service": 2, "v1.PodDisruptionBudget": 1, "v1.NetworkPolicy": 2, "v1.ConfigMap": 1,
		}},
		"with Redis and monitoring": {whole(t), map[string]int{
			"v1.Namespace": 1, "v1.Deployment": 2, "v1.Service": 3, "v1.PodDisruptionBudget": 1, "v1.NetworkPolicy": 3, "v1.ConfigMap": 1, "v1.ServiceMonitor": 1,
		}},
	} {
		if got := kinds(tt.objects); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	for _, o := range whole(t) {
		if _, is := o.(*corev1.Namespace); !is && o.GetNamespace() != "heliograph" {
			t.Errorf("%T %s is in the namespace %q", o, o.GetName(), o.GetNamespace())
		}
	}
}

// Whatever selects pods selects those of exactly one deployment.
func TestSelectors(t *testing.T) {
	objects := whole(t)
	deployments := all[*appsv1.Deployment](objects)
	selects := func(what string, labels map[string]string) *appsv1.Deployment {
		var selected []*appsv1.Deployment
		for _, d := range deployments {
			if len(labels) > 0 && contains(d.Spec.Template.Labels, labels) {
				selected = append(selected, d)
			}
		}
		if len(selected) != 1 {
			t.Fatalf("%s selects the pods of %d deployments", what, len(selected))
		}
		return selected[0]
	}
	checkPort := func(what string, d *appsv1.Deployment, port intstr.IntOrString) {
		if !slices.ContainsFunc(d.Spec.Template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
			return port == intstr.FromString(p.Name) || port == intstr.FromInt32(p.ContainerPort)
		}) {
			t.Errorf("%s: the pods of %s have no port %s", what, d.Name, port.String())
		}
	}
	for _, d := range deployments {
		if got := selects("deployment "+d.Name, d.Spec.Selector.MatchLabels); got != d {
			t.Errorf("%s selects the pods of %s", d.Name, got.Name)
		}
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			if got := selects("spread", c.LabelSelector.MatchLabels); got != d {
				t.Errorf("%s is spread against the pods of %s", d.Name, got.Name)
			}
		}
	}
	for _, s := range all[*corev1.Service](objects) {
		d := selects("service "+s.Name, s.Spec.Selector)
		for _, p := range s.Spec.Ports {
			checkPort("service "+s.Name, d, p.TargetPort)
		}
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](objects) {
		if d := selects("budget", b.Spec.Selector.MatchLabels); d.Name != "heliograph" {
			t.Errorf("the budget is for %s", d.Name)
		}
	}
	for _, p := range all[*networkingv1.NetworkPolicy](objects) {
		d := selects("policy "+p.Name, p.Spec.PodSelector.MatchLabels)
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				checkPort("policy "+p.Name, d, *port.Port)
			}
			for _, from := range rule.From {
				if from.PodSelector != nil {
					selects("policy "+p.Name, from.PodSelector.MatchLabels)
				}
			}
		}
	}
	for _, m := range all[*monitoringv1.ServiceMonitor](objects) {
		services := slices.DeleteFunc(all[*corev1.Service](objects), func(s *corev1.Service) bool {
			return !contains(s.Labels, m.Spec.Selector.MatchLabels)
		})
		if len(services) != 1 || services[0].Spec.Ports[0].Name != m.Spec.Endpoints[0].Port {
			t.Errorf("the monitor finds %d services, or another port of theirs", len(services))
		}
	}
}

func contains(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// A pod is one of the deployment's, with what it refers to.
type pod struct {
	deployment *appsv1.Deployment
	spec       corev1.PodSpec
	container  corev1.Container
	env        map[string]string // what is neither secret nor a reference
}

func nodePod(t *testing.T, objects []metav1.Object) pod {
	t.Helper()
	d := one[*appsv1.Deployment](t, objects, "heliograph")
	p := pod{d, d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0], make(map[string]string)}
	for _, from := range p.container.EnvFrom {
		settings := one[*corev1.ConfigMap](t, objects, "heliograph")
		if from.ConfigMapRef.Name != settings.Name {
			t.Fatalf("settings are read from %s", from.ConfigMapRef.Name)
		}
		maps.Copy(p.env, settings.Data)
	}
	for _, e := range p.container.Env {
		if e.ValueFrom == nil {
			p.env[e.Name] = e.Value
		}
	}
	return p
}

func (p pod) port(t *testing.T, name intstr.IntOrString) int32 {
	t.Helper()
	for _, port := range p.container.Ports {
		if port.Name == name.StrVal {
			return port.ContainerPort
		}
	}
	t.Fatalf("no port %s", name.String())
	return 0
}

func TestNodesOfKubernetes(t *testing.T) {
	p := nodePod(t, whole(t))
	if p.deployment.Spec.Replicas != nil {
		t.Error("applied again, this undoes kubectl scale")
	}
	checkGrace(t, p.env, time.Duration(*p.spec.TerminationGracePeriodSeconds)*time.Second)
	if ready := time.Duration(p.deployment.Spec.MinReadySeconds) * time.Second; ready <= drain(t, p.env) {
		t.Errorf("the next node goes %v after a new one came, and a drain takes %v", ready, drain(t, p.env))
	}
	if u := p.deployment.Spec.Strategy.RollingUpdate; u.MaxUnavailable.String() != "0" || u.MaxSurge.String() == "0" {
		t.Errorf("a roll-out takes %v nodes away and adds %v", u.MaxUnavailable, u.MaxSurge)
	}
	for name := range p.env {
		if _, ok := program(t).env[name]; strings.HasPrefix(name, "HELIOGRAPH_") && !ok {
			t.Errorf("the program has no variable %s", name)
		}
	}
	for name, listen := range map[string]string{"clients": "HELIOGRAPH_LISTEN", "admin": "HELIOGRAPH_ADMIN_LISTEN", "peers": "HELIOGRAPH_PEER_LISTEN"} {
		if want := fmt.Sprintf(":%d", p.port(t, intstr.FromString(name))); p.env[listen] != want {
			t.Errorf("%s is %q and the port %s", listen, p.env[listen], want)
		}
	}
	if !slices.ContainsFunc(p.container.Env, func(e corev1.EnvVar) bool {
		return e.Name == "HELIOGRAPH_PEER_ADVERTISE" && e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "status.podIP"
	}) {
		t.Error("nodes do not know under which address they are reached")
	}
	for path, probe := range map[string]*corev1.Probe{"/livez": p.container.LivenessProbe, "/readyz": p.container.ReadinessProbe} {
		if get := probe.HTTPGet; get.Path != path || get.Port.StrVal != "admin" {
			t.Errorf("the probe of %s asks for %s at %s", path, get.Path, get.Port.String())
		}
	}
	if get := p.container.StartupProbe.HTTPGet; get.Path != "/livez" || get.Port.StrVal != "admin" {
		t.Errorf("the start-up probe asks for %s at %s", get.Path, get.Port.String())
	}
	limit := p.container.Resources.Limits.Memory().Value()
	soft, err := strconv.ParseInt(strings.TrimSuffix(p.env["GOMEMLIMIT"], "MiB"), 10, 64)
	if soft <<= 20; err != nil || soft > limit*95/100 || soft < limit*85/100 {
		t.Errorf("GOMEMLIMIT is %s, of %d bytes", p.env["GOMEMLIMIT"], limit)
	}
	if !p.container.Resources.Limits.Cpu().IsZero() || p.container.Resources.Requests.Cpu().IsZero() {
		t.Error("CPU is limited, or not asked for")
	}
}

func TestPodsAreRestricted(t *testing.T) {
	for _, d := range all[*appsv1.Deployment](whole(t)) {
		spec := d.Spec.Template.Spec
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			t.Errorf("%s gets a token for Kubernetes", d.Name)
		}
		s := spec.SecurityContext
		if s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: %+v", d.Name, s)
		}
		for _, c := range spec.Containers {
			s := c.SecurityContext
			if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s/%s: %+v", d.Name, c.Name, s)
			}
			if repository, _, _ := strings.Cut(c.Image, ":"); repository != "heliograph" && !isPinned(c.Image) {
				t.Errorf("%s runs %s: say its whole version", d.Name, c.Image)
			}
		}
	}
	user := one[*appsv1.Deployment](t, whole(t), "heliograph").Spec.Template.Spec.SecurityContext
	if want := fmt.Sprintf("USER %d:%d\n", *user.RunAsUser, *user.RunAsGroup); !strings.Contains(read(t, "Dockerfile"), want) {
		t.Errorf("the image is not made for %q", want)
	}
}

// Nodes reach each other, and nobody else reaches the port for that.
func TestPeerPortIsForNodes(t *testing.T) {
	objects := whole(t)
	node := one[*appsv1.Deployment](t, objects, "heliograph")
	opened := 0
	for _, policy := range all[*networkingv1.NetworkPolicy](objects) {
		for _, rule := range policy.Spec.Ingress {
			if !slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.StrVal == "peers" }) {
				continue
			}
			opened++
			if len(rule.From) != 1 || rule.From[0].NamespaceSelector != nil || rule.From[0].IPBlock != nil ||
				!maps.Equal(rule.From[0].PodSelector.MatchLabels, node.Spec.Selector.MatchLabels) {
				t.Errorf("%s opens it to %+v", policy.Name, rule.From)
			}
		}
	}
	if opened != 1 {
		t.Errorf("it is opened %d times", opened)
	}
	for _, s := range all[*corev1.Service](objects) {
		for _, p := range s.Spec.Ports {
			if p.TargetPort.StrVal == "peers" {
				t.Errorf("the service %s has it", s.Name)
			}
		}
	}
}

// Only the kubelet, and Prometheus if it is asked for, reach the admin port.
func TestAdminPortIsClosed(t *testing.T) {
	for name, objects := range map[string][]metav1.Object{"without monitoring": kustomize(t, filepath.Join(root, "k8s")), "with it": whole(t)} {
		for _, policy := range all[*networkingv1.NetworkPolicy](objects) {
			for _, rule := range policy.Spec.Ingress {
				if len(rule.Ports) == 0 || len(rule.From) == 0 && slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.StrVal != "clients" }) {
					t.Errorf("%s: %s opens more than the clients' port to everybody", name, policy.Name)
				}
			}
		}
		for _, s := range all[*corev1.Service](objects) {
			for _, p := range s.Spec.Ports {
				if s.Name != "heliograph-admin" && p.TargetPort.StrVal == "admin" {
					t.Errorf("%s: the service %s has the admin port", name, s.Name)
				}
			}
		}
	}
}

// What is referred to in the secret is in the example, and the other way round.
func TestSecretExample(t *testing.T) {
	object, err := decode([]byte(read(t, "k8s/secret.example.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	example := object.(*corev1.Secret)
	unused := maps.Clone(example.StringData)
	use := func(name, key string) {
		if _, ok := example.StringData[key]; !ok || name != example.Name {
			t.Errorf("%s of the secret %s is used, and is not in the example", key, name)
		}
		delete(unused, key)
	}
	objects := whole(t)
	for _, d := range all[*appsv1.Deployment](objects) {
		for _, v := range d.Spec.Template.Spec.Volumes {
			for _, item := range v.Secret.Items {
				use(v.Secret.SecretName, item.Key)
			}
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					use(e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key)
				}
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("nothing uses %v", slices.Collect(maps.Keys(unused)))
	}
	p := nodePod(t, objects)
	mounted := p.container.VolumeMounts[0].MountPath + "/" + p.spec.Volumes[0].Secret.Items[0].Path
	if p.env["HELIOGRAPH_CONFIG"] != mounted {
		t.Errorf("the config file is %s, and is looked for at %s", mounted, p.env["HELIOGRAPH_CONFIG"])
	}
	checkSecret(t, objects, example.StringData)
}

// checkSecret checks that the nodes' config file says of Redis what is true.
func checkSecret(t *testing.T, objects []metav1.Object, data map[string]string) {
	t.Helper()
	var config struct {
		Redis string `json:"redis"`
	}
	if err := yaml.Unmarshal([]byte(data["secrets.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	service := one[*corev1.Service](t, objects, "heliograph-redis")
	if want := fmt.Sprintf("redis://:%s@%s:%d", data["redis-password"], service.Name, service.Spec.Ports[0].Port); config.Redis != want {
		t.Errorf("nodes look for %s, and it is at %s", config.Redis, want)
	}
}

// Redis is the same in Kubernetes as in Compose, where a test starts it, but for the
// password.
func TestRedisOfKubernetes(t *testing.T) {
	d := one[*appsv1.Deployment](t, kustomize(t, filepath.Join(root, "k8s")), "heliograph-redis")
	c := d.Spec.Template.Spec.Containers[0]
	want := append(slices.Clone([]string(loaded(t).Services["redis"].Command)), "--requirepass", "$(REDISCLI_AUTH)")
	if !slices.Equal(c.Args, want) {
		t.Errorf("it is started by %q, want %q", c.Args, want)
	}
	if c.Image != loaded(t).Services["redis"].Image {
		t.Errorf("it is %s", c.Image)
	}
	if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || *d.Spec.Replicas != 1 {
		t.Error("there may be two at a time")
	}
}
