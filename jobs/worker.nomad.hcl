# One instance of a model service. The scheduler has Nomad parse this text once for each instance, with the
# variables below, and adds the group to the job of the deployment. A group keeps the text that it was
# started with: a change here is seen by new instances only.
#
# What you change for your cluster stands in the task; keep the job's id, `update`, `restart`, `reschedule`
# and the names of group and task as they are.

# The scheduler gives every one of these; the values here only let `nomad job validate` read the file.
variable "job" {
  type    = string
  default = "caravan-u-000000000000-example"
}

variable "model" {
  type    = string
  default = "u-000000000000/example"
}

variable "instance" {
  type    = string
  default = "i-aaaaaa"
}

variable "generation" {
  type    = number
  default = 1
}

variable "installation" {
  type    = string
  default = "example"
}

variable "environment" {
  type    = map(string)
  default = {}
}

variable "command" {
  type    = list(string)
  default = ["/opt/caravan/bin/python", "-m", "services.worker"]
}

variable "kill_timeout" {
  type    = string
  default = "150s"
}

variable "first_delay" {
  type    = string
  default = "5s"
}

variable "max_delay" {
  type    = string
  default = "5m"
}

variable "driver" {
  type    = string
  default = "raw_exec"
}

variable "image" {
  type    = string
  default = ""
}

variable "host_network" {
  type    = string
  default = "default"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  type    = string
  default = "default"
}

variable "priority" {
  type    = number
  default = 50
}

variable "cpu_mhz" {
  type    = number
  default = 1000
}

variable "memory_mib" {
  type    = number
  default = 4096
}

variable "gpus" {
  type    = number
  default = 0
}

variable "links" {
  type    = list(object({ label = string, url = string }))
  default = []
}

job "worker" {
  id          = var.job
  name        = var.job
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  # Never changes: a change of meta would restart every instance.
  meta {
    installation = var.installation
  }

  ui {
    description = "Model service **${var.model}**, kept by Caravan. Each group is one instance, its task says which generation. Change it with `caravan`, not here."

    dynamic "link" {
      for_each = var.links
      content {
        label = link.value.label
        url   = link.value.url
      }
    }
  }

  # No Nomad deployments: Caravan replaces instances itself, one by one.
  # (With a progress deadline Nomad would refuse a kill_timeout of more than ten minutes.)
  update {
    max_parallel      = 0
    progress_deadline = "0s"
  }

  dynamic "group" {
    for_each = [var.instance]
    labels   = [group.value]

    content {
      count = 1

      restart {
        attempts = 0
        mode     = "fail"
      }

      reschedule {
        delay          = var.first_delay
        delay_function = "exponential"
        max_delay      = var.max_delay
        unlimited      = true
      }

      network {
        mode = "host"
        port "http" {
          host_network = var.host_network
        }
      }

      dynamic "task" {
        for_each = ["${var.instance}-g${var.generation}"]
        labels   = [task.value]

        content {
          driver       = var.driver
          kill_signal  = "SIGTERM"
          kill_timeout = var.kill_timeout

          env = merge(var.environment, {
            WORKER_HOST       = "$${NOMAD_IP_http}"
            WORKER_PORT       = "$${NOMAD_PORT_http}"
            WORKER_ALLOCATION = "$${NOMAD_ALLOC_ID}"
          })

          # One log, in the order of printing; and Nomad names the GPUs to Docker's runtime only.
          config {
            image        = var.driver == "docker" ? var.image : null
            network_mode = var.driver == "docker" ? "host" : null
            command      = "/bin/sh"
            args = concat([
              "-c",
              "[ -z \"$NVIDIA_VISIBLE_DEVICES\" ] || export CUDA_VISIBLE_DEVICES=\"$NVIDIA_VISIBLE_DEVICES\"; exec \"$0\" \"$@\" 2>&1",
            ], var.command)
          }

          resources {
            cpu    = var.cpu_mhz
            memory = var.memory_mib

            dynamic "device" {
              for_each = var.gpus > 0 ? [var.gpus] : []
              labels   = ["nvidia/gpu"]
              content {
                count = device.value
              }
            }
          }

          logs {
            max_files     = 2
            max_file_size = 8
          }
        }
      }
    }
  }
}
